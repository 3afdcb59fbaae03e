"""What Celery's own signals tell of runs, through Celery's own tracer."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from billiard.exceptions import TimeLimitExceeded, WorkerLostError
from celery import signals
from celery.app.task import Context
from celery.app.trace import build_tracer
from celery.exceptions import Ignore, Reject
from kombu.utils.json import dumps, loads

from taskbridge.adapters.celery import side
from taskbridge.adapters.celery.addressing import Addressing
from taskbridge.adapters.celery.digest import arguments_digest
from taskbridge.adapters.celery.observe import RunReporter, connect_observation
from taskbridge.cutover import Stage
from taskbridge.observation import RunRow

INFO = {"exchange": "", "routing_key": "celery", "priority": 0, "redelivered": False}


class Watched:
    def __init__(self, bridged: Any) -> None:
        self.bridged = bridged
        self.app = bridged.app
        self.reporter = RunReporter(
            self.app,
            Addressing(self.app, bridged.dispatcher.settings),
            bridged.dispatcher.flag,
            bridged.observer,
            bridged.dispatcher.numbering,
        )

        @self.app.task(name="orders.end", shared=False, bind=True, max_retries=5)
        def end(task: Any, how: str, *rest: Any) -> Any:
            if how == "fail":
                raise KeyError("gone")
            if how == "retry":
                raise task.retry(exc=ValueError("later"), countdown=0)
            if how == "ignore":
                raise Ignore
            if how in {"reject", "requeue"}:
                raise Reject("no", requeue=how == "requeue")
            if how == "mutate":
                rest[0].append("changed")
            if how == "nested":
                task.app.tasks["orders.place"].apply(("inner",))
            return how

    def run(self, *args: Any, name: str = "orders.end", task_id: str = "id-1", **request: Any) -> None:
        task = self.app.tasks[name]
        request = {"id": task_id, "delivery_info": dict(INFO), "is_eager": False, **request}
        build_tracer(name, task, app=self.app)(task_id, args, {}, request)

    @property
    def rows(self) -> list[RunRow]:
        return [row for row in self.bridged.observer.rows if isinstance(row, RunRow)]


@pytest.fixture
def watched(bridged: Any) -> Iterator[Watched]:
    watched = Watched(bridged)
    connected = [
        signals.task_prerun,
        signals.task_postrun,
        signals.task_failure,
        signals.task_revoked,
        signals.task_unknown,
    ]
    before = [list(signal.receivers) for signal in connected]
    for signal in connected:
        signal.receivers[:] = []
        signal.sender_receivers_cache.clear()
    connect_observation(lambda app: watched.reporter if app is watched.app else None)
    connect_observation(lambda app: watched.reporter if app is watched.app else None)
    yield watched
    for signal, receivers in zip(connected, before, strict=True):
        signal.receivers[:] = receivers
        signal.sender_receivers_cache.clear()


@pytest.mark.parametrize(
    ("how", "outcome", "detail"),
    [
        ("ok", "success", ""),
        ("fail", "failure", "KeyError"),
        ("retry", "retry", "ValueError"),
        ("ignore", "ignored", "Ignore"),
        ("reject", "rejected", "Reject"),
        ("requeue", "requeued", "Reject"),
    ],
)
def test_every_ending_is_one_row(watched: Watched, how: str, outcome: str, detail: str) -> None:
    watched.bridged.move(Stage.MIRROR)
    began = time.time()
    try:
        watched.run(how, retries=2, replaced_task_nesting=1)
    except Reject:
        assert how in {"reject", "requeue"}
    [row] = watched.rows
    assert (row.id, row.retries, row.nesting, row.task, row.side) == ("id-1", 2, 1, "orders.end", "celery")
    assert (row.outcome, row.detail) == (outcome, detail)
    assert began <= row.started <= row.finished <= time.time()
    assert row.args == arguments_digest([how], {})


def test_arguments_are_digested_before_the_task_can_change_them(watched: Watched) -> None:
    watched.bridged.move(Stage.LIVE)
    watched.run("mutate", ["as sent"])
    assert watched.rows[0].args == arguments_digest(["mutate", ["as sent"]], {})


def test_a_task_called_within_a_task_is_no_run_of_its_own(watched: Watched) -> None:
    watched.bridged.move(Stage.MIRROR)
    watched.run("nested")
    assert [row.task for row in watched.rows] == ["orders.end"]


def test_tasks_of_no_service_are_not_observed(watched: Watched) -> None:
    watched.bridged.move(Stage.MIRROR)
    watched.run(name="other.work")
    assert watched.rows == []
    watched.run(name="other.work", delivery_info={**INFO, "routing_key": "mails"})
    assert [row.task for row in watched.rows] == ["other.work"]


def test_a_service_that_never_left_off_is_not_observed(watched: Watched) -> None:
    watched.run("ok")
    assert watched.rows == []


def test_what_ran_before_this_process_heard_of_the_transition_is_not_lost(watched: Watched) -> None:
    watched.run("ok", task_id="before")
    watched.bridged.move(Stage.MIRROR, "mails")
    watched.reporter.release()
    assert watched.rows == []
    watched.run("ok", task_id="again")
    watched.bridged.move(Stage.MIRROR, "orders")
    watched.run("ok", task_id="after")
    assert [row.id for row in watched.rows] == ["again", "after"]
    assert watched.rows[0].args == ""


def test_what_was_dispatched_before_a_rollback_is_observed_after_it(watched: Watched) -> None:
    watched.bridged.move(Stage.MIRROR)
    watched.bridged.move(Stage.OFF)
    watched.run("ok")
    assert [row.outcome for row in watched.rows] == ["success"]


def test_in_our_own_executor_celerys_signals_say_nothing(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(side, "_side", ["celery"])
    watched.bridged.move(Stage.MIRROR)
    assert side.current_side() == "celery"
    side.mark_kafka()
    assert side.current_side() == "kafka"
    watched.run("ok")
    assert watched.rows == []


@pytest.mark.parametrize("flag", ["terminated", "expired", "revoked"])
def test_what_never_ran_has_no_times_of_running(watched: Watched, flag: str) -> None:
    watched.bridged.move(Stage.MIRROR)
    task = watched.app.tasks["orders.end"]
    request = Context(id="id-9", delivery_info=INFO, retries=1, args=("x",), kwargs={})
    signals.task_revoked.send(
        sender=task, request=request, terminated=flag == "terminated", signum=None, expired=flag == "expired"
    )
    [row] = watched.rows
    assert (row.id, row.retries, row.started, row.args) == ("id-9", 1, 0.0, "")
    assert row.outcome == ("expired" if flag == "expired" else "revoked")
    assert row.finished > 0


@pytest.mark.parametrize("error", [WorkerLostError("killed"), TimeLimitExceeded(9)])
def test_killed_processes_are_told_once_by_the_main_process(watched: Watched, error: Exception) -> None:
    watched.bridged.move(Stage.MIRROR)
    task = watched.app.tasks["orders.end"]
    # Celery puts the request on the stack, signals, takes it off; for a time limit it then signals again.
    task.request_stack.push(Context(id="id-1", delivery_info=INFO, retries=3, args=("x",), kwargs={}))
    signals.task_failure.send(sender=task, task_id="id-1", exception=error)
    signals.task_failure.send(sender=task, task_id="id-1", exception=KeyError("told by task_postrun"))
    task.request_stack.pop()
    signals.task_failure.send(sender=task, task_id="id-1", exception=error)
    assert [(row.id, row.retries, row.outcome, row.detail) for row in watched.rows] == [
        ("id-1", 3, "failure", type(error).__name__)
    ]


def test_a_name_that_nobody_registered(watched: Watched) -> None:
    watched.bridged.move(Stage.MIRROR)
    message = SimpleNamespace(headers={"id": "id-3", "task": "orders.gone", "retries": 1}, delivery_info=INFO)

    class Consumer:
        app = watched.app

    consumer = Consumer()
    signals.task_unknown.send(sender=consumer, message=message, exc=None, name="orders.gone", id="id-3")
    assert [(row.id, row.retries, row.outcome, row.detail) for row in watched.rows] == [
        ("id-3", 1, "rejected", "NotRegistered")
    ]


def test_a_failure_to_observe_never_reaches_the_task(watched: Watched, caplog: pytest.LogCaptureFixture) -> None:
    watched.bridged.move(Stage.MIRROR)

    def observe(batch: object) -> None:
        raise RuntimeError("a bug in the observer")

    watched.bridged.observer.observe = observe
    watched.run("ok")
    assert "a run was not observed: RuntimeError('a bug in the observer')" in caplog.text


def test_a_forked_child_leaves_what_is_held_to_its_parent(watched: Watched) -> None:
    watched.run("ok", task_id="held")
    watched.bridged.move(Stage.MIRROR)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        watched.reporter.release()
        os.write(writer, str(len(watched.rows)).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reader, 9) == b"0"
    watched.reporter.release()
    assert [row.id for row in watched.rows] == ["held"]


def test_the_digest_is_that_of_what_arrives() -> None:
    args, kwargs = (1, UUID(int=3), {"b": 1, "a": [2]}), {"z": None, "y": "é"}
    assert arguments_digest(args, kwargs) == arguments_digest(*loads(dumps([args, kwargs])))
    assert arguments_digest((1,), {}) != arguments_digest(("1",), {})
    assert arguments_digest([{"a": 1, "b": 2}], {}) == arguments_digest(([{"b": 2, "a": 1}][0],), {})
    assert arguments_digest((), {}) == "5eed25f9aa1c6813"
    assert arguments_digest((object(),), {}) == ""
