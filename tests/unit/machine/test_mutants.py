"""The machines can lose: each of these mistakes in the product is found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from taskbridge.cutover import FlagCache
from taskbridge.dispatch import Dispatcher
from taskbridge.dispatch.ordered import OrderedRoad
from taskbridge.dispatch.settling import Settling
from taskbridge.exceptions import PublishError
from taskbridge.relay import Sender
from taskbridge.worker.tracker import PartitionTracker
from tests.unit.machine.conftest import SLOW
from tests.unit.machine.database import TableClaim
from tests.unit.machine.machine import Common, Machine, OrderedMachine

# Shrinking would take longer than finding.
FIND = settings(
    max_examples=2_000,
    stateful_step_count=40,
    derandomize=True,
    deadline=None,
    suppress_health_check=SLOW,
    database=None,
    phases=[Phase.generate],
    report_multiple_bugs=False,
    print_blob=False,
)

Patch = pytest.MonkeyPatch


def takes_doubt_for_refusal(patch: Patch) -> None:
    # What it catches to fall back to Celery is then every failed publish.
    patch.setattr("taskbridge.dispatch.dispatcher.PublishRefused", PublishError)


def forgets_the_attempt(patch: Patch) -> None:
    ambiguous = Settling.ambiguous

    def forgetful(self: Settling, begun: Any, error: Any) -> None:
        keeps = self._pending.outbox_many
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(self._pending, "outbox_many", lambda rows: keeps([replace(row, attempts=0) for row in rows]))
            ambiguous(self, begun, error)

    patch.setattr(Settling, "ambiguous", forgetful)


def relay_forgets_its_note(patch: Patch) -> None:
    patch.setattr(TableClaim, "begin", lambda self, _: self.process.step())


def relay_ignores_the_flag(patch: Patch) -> None:
    work = Sender._work

    def stubborn(self: Any, row: Any, *flags: Any) -> Any:
        found = work(self, row, *flags)
        if found is not None:
            found.road = "kafka"
        return found

    patch.setattr(Sender, "_work", stubborn)


def flags_are_never_read_again(patch: Patch) -> None:
    refresh = FlagCache._refresh

    def once(self: Any, now: float) -> None:
        refresh(self, now)
        if self._last_read == now:
            self._next_look = float("inf")
            self._stale_after = float("inf")

    patch.setattr(FlagCache, "_refresh", once)


def outbox_leaves_the_transaction(patch: Patch) -> None:
    publish = Dispatcher._publish
    patch.setattr(Dispatcher, "_join", lambda self, sending, message: publish(self, sending, message, None))


def watermark_passes_what_runs(patch: Patch) -> None:
    patch.setattr(PartitionTracker, "watermark", lambda self: self._next)


def fence_is_ignored(patch: Patch) -> None:
    through = OrderedRoad._through

    def bold(self: Any, passage: Any, sending: Any) -> Any:
        passage.waiting = None
        sending.flag = replace(sending.flag, fence=None)
        return through(self, passage, sending)

    patch.setattr(OrderedRoad, "_through", bold)


@pytest.mark.parametrize(
    ("machine", "mistake"),
    [
        (Machine, takes_doubt_for_refusal),
        (Machine, forgets_the_attempt),
        (Machine, relay_forgets_its_note),
        (Machine, relay_ignores_the_flag),
        (Machine, flags_are_never_read_again),
        (Machine, outbox_leaves_the_transaction),
        (Machine, watermark_passes_what_runs),
        (OrderedMachine, fence_is_ignored),
    ],
)
def test_a_mistake_is_found(
    machine: type[Common], mistake: Callable[[Patch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    mistake(monkeypatch)
    with pytest.raises(AssertionError):
        run_state_machine_as_test(machine, settings=FIND)
