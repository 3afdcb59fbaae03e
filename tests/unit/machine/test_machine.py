"""
The product against a model, as hypothesis plays it: dispatches, flips, crashes, redeliveries, rollbacks, in any order.

At all times: nothing runs that was rolled back or cancelled; a repeat, and another side, has an explanation that is
written down; what runs once has one effect; no process sends to Kafka what no flag that it may know sends there. At the
end, with every server back: what was acknowledged has run, and without faults exactly once.

    pytest tests/unit/machine --hypothesis-profile=long
"""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from tests.unit.machine.conftest import SLOW
from tests.unit.machine.machine import Common, Machine, OrderedMachine

QUICK = settings(
    max_examples=300, stateful_step_count=40, derandomize=True, deadline=None, suppress_health_check=SLOW, database=None
)


@pytest.mark.parametrize("machine", [Machine, OrderedMachine])
def test_no_game_ends_badly(machine: type[Common], request: pytest.FixtureRequest) -> None:
    long = request.config.getoption("--hypothesis-profile") == "long"
    if long:
        request.node.add_marker(pytest.mark.timeout(0))
    run_state_machine_as_test(machine, settings=settings.get_profile("long") if long else QUICK)
