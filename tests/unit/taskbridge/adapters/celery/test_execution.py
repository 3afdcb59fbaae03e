"""One record through Celery's tracer and request, and what is left to do afterwards."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from celery import signals
from celery.app.trace import build_tracer
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded
from celery.worker.state import revoked as revoked_tasks

from taskbridge.adapters.celery.bodies import wrap_bodies
from taskbridge.adapters.celery.execution import TaskExecution
from taskbridge.adapters.celery.once import Once
from taskbridge.adapters.celery.options import TaskOptions
from taskbridge.adapters.celery.result import Result
from taskbridge.observation import RunRow
from taskbridge.worker.channel import Obituary, WorkItem
from taskbridge.worker.slots import SIZE, SlotTable
from tests.unit.taskbridge.adapters.celery.ledgers import FakeLedger
from tests.unit.taskbridge.adapters.celery.messages import item_of, message_of

LOST, TIMEOUT = Obituary("lost", -9), Obituary("timeout", -9)


class Runner:
    """An execution in this process, for an app of `conftest` with more tasks."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.table = SlotTable(bytearray(SIZE))
        self.calls: list[str] = []
        self._add_tasks()
        app.finalize()
        for name, task in app.tasks.items():
            task.__trace__ = build_tracer(name, task, app.loader, "here", app=app)
        self.execution = TaskExecution(app, "here", "shop.orders", 3, self.table)

    def _add_tasks(self) -> None:
        def add(name: str, **options: Any) -> Callable[[Any], Any]:
            return self.app.task(name=f"temper.{name}", shared=False, **options)

        @add("fails")
        def fails() -> None:
            raise ValueError("as it should")

        @add("ignores")
        def ignores() -> None:
            raise Ignore

        @add("rejects", acks_late=True)
        def rejects(requeue: bool) -> None:
            raise Reject("not for me", requeue=requeue)

        @add("leaves")
        def leaves() -> None:
            raise SystemExit(3)

        @add("limited", soft_time_limit=2, time_limit=5)
        def limited() -> list[float]:
            return [limit - time.monotonic() for limit in self.table.deadlines()]

        @add("context", bind=True)
        def context(this: Any) -> Any:
            request = this.request
            return [request.id, request.hostname, request.delivery_info["redelivered"], request.is_eager]

        @add("once", bridge=TaskOptions(once=True))
        def once() -> str:
            return "done"

        @add("late", acks_late=True, reject_on_worker_lost=True)
        def late() -> None:
            self.calls.append("late")

    def item(self, task: str, *args: Any, obituary: Obituary | None = None, more: Any = None, **options: Any) -> Any:
        options.setdefault("task_id", uuid4().hex)
        return item_of(message_of(self.app, task, *args, **options), obituary, **(more or {}))

    def run(self, task: str, *args: Any, **options: Any) -> Result:
        return self.execution.run(self.item(task, *args, **options))

    def state(self, result: Result) -> tuple[str, Any]:
        found = self.app.AsyncResult(result.task_id)
        return found.state, found.result


@pytest.fixture
def runner(app: Any) -> Runner:
    return Runner(app)


def test_a_body_that_was_skipped_is_told_of(runner: Runner) -> None:
    wrap_bodies(runner.app, "here", lambda _: Once(ledger, 60.0), in_barrier=False)
    ledger = FakeLedger()
    task_id = uuid4().hex
    told = [RunRow(*runner.run("temper.once", task_id=task_id).row(10.0, 11.0)).once for _ in range(2)]
    assert told == [1, 2]
    assert RunRow(*runner.run("orders.place", "o-1").row(10.0, 11.0)).once == 0


@contextmanager
def heard(name: str) -> Iterator[list[dict[str, Any]]]:
    """Collect what is sent with one of Celery's signals."""
    found: list[dict[str, Any]] = []

    def hear(**details: Any) -> None:
        found.append(details)

    chosen = getattr(signals, name)
    chosen.connect(hear, weak=False)
    try:
        yield found
    finally:
        chosen.disconnect(hear)


def test_a_task_that_succeeds_leaves_nothing_to_do(runner: Runner) -> None:
    result = runner.run("orders.place", "o-1", retries=1)
    assert (result.outcome, result.action, result.executed, result.leave) == ("success", "", True, None)
    assert runner.state(result) == ("SUCCESS", "o-1")
    row = RunRow(*result.row(10.0, 11.0))
    assert (row.retries, row.side, row.epoch, row.partition, row.offset, row.finished) == (1, "kafka", 4, 2, 5, 11.0)


@pytest.mark.parametrize(
    ("task", "args", "outcome", "action", "reason", "detail", "state"),
    [
        ("temper.fails", (), "failure", "", "", "ValueError", "FAILURE"),
        ("temper.ignores", (), "ignored", "", "", "Ignore", "PENDING"),
        ("orders.retry", ("o",), "retry", "", "", "Retry", "RETRY"),
        # Rejected for good, a broker would drop it or have a place for dead letters of its own.
        ("temper.rejects", (False,), "dead", "dead", "rejected", "not for me", "FAILURE"),
        ("temper.rejects", (True,), "requeued", "requeue", "", "Reject", "PENDING"),
        ("orders.place", (), "failure", "", "", "TypeError", "FAILURE"),
    ],
)
def test_what_does_not_simply_succeed(
    runner: Runner, task: str, args: Any, outcome: str, action: str, reason: str, detail: str, state: str
) -> None:
    result = runner.run(task, *args)
    assert (result.outcome, result.action, result.reason, result.detail) == (outcome, action, reason, detail)
    assert runner.state(result)[0] == state
    assert result.executed


def test_a_task_that_asks_the_process_to_end_is_settled_first(runner: Runner) -> None:
    result = runner.run("temper.leaves")
    assert (result.leave, result.outcome, result.reason) == (3, "dead", "worker_lost")
    assert runner.state(result)[0] == "FAILURE"


def test_the_task_sees_the_request_that_celery_gives_it(runner: Runner) -> None:
    result = runner.run("temper.context", more={"bridge_deliveries": "1"})
    assert runner.state(result)[1] == [result.task_id, "here", True, False]
    assert result.deliveries == 1


def test_deadlines_stand_while_the_task_runs_and_no_longer(runner: Runner) -> None:
    result = runner.run("temper.limited")
    assert runner.state(result)[1] == [pytest.approx(2, abs=0.5), pytest.approx(5, abs=0.5)]
    assert runner.table.deadlines() == (0.0, 0.0)
    changed = runner.run("temper.limited", time_limit=9, soft_time_limit=7)
    assert runner.state(changed)[1] == [pytest.approx(7, abs=0.5), pytest.approx(9, abs=0.5)]


def test_the_soft_limit_is_raised_only_in_the_task_that_was_meant(runner: Runner) -> None:
    runner.execution.on_soft_limit(signal.SIGUSR1, None)
    runner.table.set_deadlines(time.monotonic() + 60, 99.0)
    runner.execution.on_soft_limit(signal.SIGUSR1, None)
    runner.table.set_deadlines(time.monotonic() - 1, 99.0)
    with pytest.raises(SoftTimeLimitExceeded):
        runner.execution.on_soft_limit(signal.SIGUSR1, None)
    # Once: the task may take its time to clean up, until the hard limit.
    assert runner.table.deadlines() == (0.0, 99.0)


def test_an_expired_task_does_not_run(runner: Runner) -> None:
    with heard("task_revoked") as told:
        result = runner.run("orders.place", "o-1", expires=-5)
    assert (result.outcome, result.executed, result.action) == ("expired", False, "")
    assert [one["expired"] for one in told] == [True]
    assert runner.run("orders.place", "o-1", expires=60).outcome == "success"


def test_a_revoked_task_does_not_run(runner: Runner) -> None:
    revoked_tasks.add("revoked-1")
    try:
        result = runner.run("orders.place", "o-1", task_id="revoked-1")
    finally:
        revoked_tasks.discard("revoked-1")
    assert (result.outcome, result.executed) == ("revoked", False)
    assert runner.state(result)[0] == "REVOKED"


def test_a_task_that_nobody_knows_fails_for_whoever_waits_and_is_dead_lettered(runner: Runner) -> None:
    with heard("task_unknown") as told:
        result = runner.run("orders.of_tomorrow")
    assert (result.outcome, result.action, result.reason, result.executed) == ("dead", "dead", "unknown_task", False)
    assert "is the worker's code older" in result.detail
    assert [one["name"] for one in told] == ["orders.of_tomorrow"]
    assert runner.state(result)[0] == "FAILURE"


@pytest.mark.parametrize("changed", [{"body": b"not json"}, {"headers": b"null"}, {"content_type": "text/strange"}])
def test_a_message_that_cannot_be_decoded_is_dead_lettered_under_its_id(runner: Runner, changed: Any) -> None:
    with heard("task_rejected") as told:
        result = runner.execution.run(item_of(replace(message_of(runner.app, "orders.place", 1), **changed)))
    assert (result.task_id, result.outcome, result.action, result.reason) == ("id-1", "dead", "dead", "malformed")
    assert len(told) == 1


def test_a_record_that_is_no_message_is_dead_lettered(runner: Runner) -> None:
    result = runner.execution.run(WorkItem(0, None, [], 2, 5))
    assert (result.task_id, result.action, result.reason, result.offset) == ("", "dead", "malformed", 5)


@pytest.mark.parametrize(
    ("task", "obituary", "deliveries", "outcome", "action", "reason", "state"),
    [
        # Early acknowledged: Celery would have lost it.
        ("orders.place", LOST, 0, "dead", "dead", "worker_lost", "FAILURE"),
        # It asked to run again, and does, until it has had its three executions.
        ("temper.once", LOST, 0, "requeued", "requeue", "", "PENDING"),
        ("temper.once", LOST, 2, "dead", "dead", "worker_lost", "FAILURE"),
        ("temper.late", LOST, 0, "requeued", "requeue", "", "PENDING"),
        ("temper.late", LOST, 1, "requeued", "requeue", "", "PENDING"),
        ("temper.late", LOST, 2, "dead", "dead", "worker_lost", "FAILURE"),
        # A hard limit is a failure of the task like any other.
        ("temper.limited", TIMEOUT, 0, "failure", "", "", "FAILURE"),
    ],
)
def test_what_becomes_of_a_record_whose_executor_died(
    runner: Runner,
    task: str,
    obituary: Obituary,
    deliveries: int,
    outcome: str,
    action: str,
    reason: str,
    state: str,
) -> None:
    args = ("o-1",) if task == "orders.place" else ()
    result = runner.run(task, *args, obituary=obituary, more={"bridge_deliveries": str(deliveries)})
    assert (result.outcome, result.action, result.reason) == (outcome, action, reason)
    assert runner.state(result)[0] == state
    assert runner.calls == [], "only the failure is recorded: nothing runs"


@pytest.mark.parametrize(("task", "args"), [("orders.place", ("o-1",)), ("temper.fails", ()), ("temper.leaves", ())])
def test_an_outcome_that_cannot_be_recorded_is_a_dead_letter_and_not_the_executors_end(
    runner: Runner, monkeypatch: pytest.MonkeyPatch, task: str, args: Any
) -> None:
    def unreachable(*_: Any, **__: Any) -> None:
        raise ConnectionError("the result store does not answer")

    monkeypatch.setattr(type(runner.app.backend), "store_result", unreachable)
    told = pytest.warns(RuntimeWarning, match="Exception raised outside body")
    with nullcontext() if task == "temper.leaves" else told:
        result = runner.run(task, *args)
    assert (result.outcome, result.action, result.reason, result.executed) == ("dead", "dead", "unrecorded", True)
    assert result.detail == "its outcome could not be recorded: ConnectionError: the result store does not answer"
    assert "unreachable" in result.traceback


def test_receivers_of_task_received_get_celerys_own_request(runner: Runner) -> None:
    with heard("task_received") as told:
        runner.run("orders.place", "o-1")
    [one] = told
    assert (one["request"].name, one["request"].args) == ("orders.place", ["o-1"])
