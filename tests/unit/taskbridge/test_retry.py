"""What becomes of a record whose executor died."""

from __future__ import annotations

import pytest

from taskbridge.retry import after_loss


@pytest.mark.parametrize(
    ("wants_requeue", "deliveries", "most", "decision"),
    [
        # What did not ask to run again never does, however often it could.
        (False, 0, 3, "dead"),
        (False, 2, 3, "dead"),
        # Three executions in all: the first and the second may be followed by another.
        (True, 0, 3, "requeue"),
        (True, 1, 3, "requeue"),
        (True, 2, 3, "dead"),
        (True, 3, 3, "dead"),
        # One execution in all leaves no room for a second.
        (True, 0, 1, "dead"),
    ],
)
def test_after_loss(wants_requeue: bool, deliveries: int, most: int, decision: str) -> None:
    assert after_loss(wants_requeue, deliveries, most) == decision
