"""The loop of an executor process."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from multiprocessing import Pipe

import pytest

from taskbridge.adapters.celery import executor, zygote
from taskbridge.adapters.celery.result import Result
from taskbridge.worker.channel import STOP, Report, WorkItem, dump_batch, load_report
from taskbridge.worker.rows import OUTCOMES
from taskbridge.worker.slots import ATTENTION, DONE, EMPTY, SIZE, WITHDRAWN, SlotTable

ITEMS = [WorkItem(slot, b"", [], 2, slot) for slot in range(3)]


class Bench:
    """Both ends of an executor's pipe, and its memory."""

    def __init__(self) -> None:
        self.mine, self.theirs = Pipe()
        self.table = SlotTable(bytearray(SIZE))

    def work(self, execute: Callable[[WorkItem], Result]) -> list[Report]:
        """Give it the items and the order to end; return what it told."""
        self.mine.send_bytes(dump_batch(ITEMS))
        self.mine.send_bytes(STOP)
        executor._work(self.theirs, self.table, nullcontext(), execute)
        return self.told()

    def told(self) -> list[Report]:
        reports = []
        while self.mine.poll():
            reports.append(load_report(self.mine.recv_bytes()))
        return reports


@pytest.fixture
def bench() -> Bench:
    return Bench()


def result_of(item: WorkItem, **changed: object) -> Result:
    found = Result(f"id-{item.slot}", 0, 0, "t", "success", 0, item.partition, item.offset, 0)
    for name, value in changed.items():
        setattr(found, name, value)
    return found


def names(report: Report) -> list[str]:
    return [row[0] for row in report.rows]


def test_a_batch_ends_with_one_report_of_all_its_rows(bench: Bench) -> None:
    [report] = bench.work(result_of)
    assert (names(report), report.finished, report.verdicts) == (["id-0", "id-1", "id-2"], True, [])
    assert [bench.table.state(slot) for slot in range(4)] == [DONE + OUTCOMES.index("success")] * 3 + [EMPTY]
    started, finished = bench.table.times(0)
    assert 0 < started <= finished
    assert report.rows[0][6:8] == (started, finished)


def test_what_was_taken_back_is_left_alone(bench: Bench) -> None:
    bench.table.withdraw(1)
    ran = []
    [report] = bench.work(lambda item: ran.append(item.slot) or result_of(item))  # type: ignore[func-returns-value]
    assert ran == [0, 2]
    assert names(report) == ["id-0", "id-2"]
    assert bench.table.state(1) == WITHDRAWN


def test_a_verdict_is_told_before_the_memory_says_that_there_is_one(bench: Bench) -> None:
    changed = {"action": "dead", "reason": "rejected", "detail": "why", "outcome": "dead", "executed": False}

    def execute(item: WorkItem) -> Result:
        return result_of(item, **(changed if item.slot == 1 else {}))

    first, last = bench.work(execute)
    assert [tuple(verdict) for verdict in first.verdicts] == [(1, "dead", "rejected", "why", "")]
    assert (names(first), first.finished) == (["id-0", "id-1"], False)
    # The body never ran, so there is no time at which it did.
    assert first.rows[1][6:8] == (0.0, 0.0)
    assert (names(last), last.finished) == (["id-2"], True)
    assert bench.table.state(1) == ATTENTION


def test_a_task_that_asks_the_process_to_end_leaves_its_record_settled_and_the_next_untouched(bench: Bench) -> None:
    changed = {"leave": 3, "action": "dead", "outcome": "dead", "reason": "worker_lost"}
    with pytest.raises(SystemExit) as leaving:
        bench.work(lambda item: result_of(item, **changed))
    assert leaving.value.code == 3
    assert [names(report) for report in bench.told()] == [["id-0"], []]
    assert [bench.table.state(slot) for slot in range(2)] == [ATTENTION, EMPTY]


def test_it_ends_when_the_supervisor_is_gone(bench: Bench) -> None:
    bench.mine.close()
    executor._work(bench.theirs, bench.table, nullcontext(), result_of)
    assert bench.table.state(0) == EMPTY


@pytest.mark.parametrize(
    ("failure", "says"), [("", "no application was named"), ("no module named shop", "no module named shop")]
)
def test_an_application_that_could_not_be_loaded_is_reported(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, failure: str, says: str
) -> None:
    monkeypatch.setattr(zygote, "app", None)
    monkeypatch.setattr(zygote, "failure", failure)
    executor.main(bench.theirs, bytearray(SIZE), nullcontext(), executor.ExecutorOptions("t", "live", 3))
    assert [(report.failure, report.ready) for report in bench.told()] == [(says, False)]
