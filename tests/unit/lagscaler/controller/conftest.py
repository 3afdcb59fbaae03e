"""For all of them: what failed is tried again soon."""

import pytest


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lagscaler.controller.moving.BACKOFF", (0.02, 0.1))
