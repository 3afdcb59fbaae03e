"""One executor process, seen from the supervisor."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from taskbridge.worker.channel import Obituary
from taskbridge.worker.executors import Executor, wait_for_news
from tests.project.harness import wait_for
from tests.unit.taskbridge.worker import target
from tests.unit.taskbridge.worker.entries import entry


@pytest.fixture
def executor(tmp_path: Path) -> Iterator[Executor]:
    found = Executor(1, target.main, target.Options(tmp_path))
    yield found
    for name in ("a", "b"):
        (tmp_path / name).touch()
    found.stop()
    found.join(60)


def settle(executor: Executor) -> list[int]:
    """Take in what the executor says; return the offsets that have ended."""
    wait_for_news([executor], 0.01)
    executor.receive()
    return [ending.entry.offset for ending in executor.ended()]


def until_ready(executor: Executor) -> None:
    wait_for(lambda: settle(executor) == [] and executor.ready, "the executor", interval=0)


def running(executor: Executor) -> bool:
    return bool(executor.held) and executor.table.times(executor.held[0][0])[0] > 0


def test_it_works_off_what_it_is_given_in_order(executor: Executor) -> None:
    assert not executor.wants()
    until_ready(executor)
    assert executor.idle
    assert executor.wants()
    executor.give([entry(offset, value=b"ok") for offset in (5, 6, 7)])
    assert not executor.idle
    seen: list[int] = []
    wait_for(lambda: seen.extend(settle(executor)) or (len(seen) == 3 and executor.idle), "three records", interval=0)
    assert seen == [5, 6, 7]
    assert not executor.unreported, "a row was told of each"


def test_what_waits_behind_a_long_task_can_be_taken_back_and_does_not_run_there(
    executor: Executor, tmp_path: Path
) -> None:
    until_ready(executor)
    executor.give([entry(5, value=b"gate:a")])
    wait_for(lambda: running(executor), "the long task's beginning", interval=0.001)
    assert executor.wants(), "it may be given one more batch while it has only begun"
    executor.give([entry(6, value=b"ok"), entry(7, value=b"ok")])
    assert not executor.wants()
    began = executor.table.times(executor.held[0][0])[0]
    assert not executor.held_up(began + 0.05)
    assert executor.held_up(began + 0.2)
    assert [one.offset for one in executor.withdraw()] == [6, 7]
    assert executor.withdraw() == []
    (tmp_path / "a").touch()
    seen: list[int] = []
    wait_for(lambda: seen.extend(settle(executor)) or executor.idle, "the long task's end", interval=0)
    assert seen == [5]


def test_a_dead_executor_leaves_what_ran_apart_from_what_waited(executor: Executor) -> None:
    until_ready(executor)
    executor.give([entry(5, value=b"ok"), entry(6, value=b"die"), entry(7, value=b"ok")])
    seen: list[int] = []
    wait_for(lambda: seen.extend(settle(executor)) or not executor.alive, "its death", interval=0)
    seen += settle(executor)
    assert seen == [5]
    # What it could not tell any more of the first one.
    assert [(ending.entry.offset, ending.outcome) for ending in executor.unreported] == [(5, "success")]
    ran, waiting, obituary = executor.wreck()
    assert ran is not None
    assert (ran.offset, [one.offset for one in waiting], obituary) == (6, [7], Obituary("lost", -9))


def test_one_that_exceeds_its_hard_limit_is_killed(executor: Executor) -> None:
    until_ready(executor)
    executor.give([entry(5, value=b"hang")])

    def killed() -> bool:
        settle(executor)
        executor.enforce_limits(executor.table.deadlines()[1] or 0.0)
        return not executor.alive

    wait_for(killed, "the kill", interval=0)
    ran, waiting, obituary = executor.wreck()
    assert ran is not None
    assert (ran.offset, waiting, obituary) == (5, [], Obituary("timeout", -9))
