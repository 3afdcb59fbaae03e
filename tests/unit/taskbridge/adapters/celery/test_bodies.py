"""Which bodies are wrapped, and in which processes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from celery import signals
from celery.app.trace import build_tracer

from taskbridge import TaskOptions
from taskbridge.adapters.celery.bodies import connect_bodies, wrap_bodies
from taskbridge.adapters.celery.once import Once
from taskbridge.dispatch import barrier as barriers
from taskbridge.exceptions import PublishAmbiguous
from tests.unit.taskbridge.adapters.celery.ledgers import FakeLedger


class Settler:
    """Whatever was begun is settled here."""

    def __init__(self) -> None:
        self.settled: list[Any] = []
        self.error: Exception | None = None

    def settle(self, begun: Any) -> None:
        self.settled += begun
        if self.error is not None:
            raise self.error


@pytest.fixture
def ledger() -> FakeLedger:
    return FakeLedger()


@pytest.fixture
def once(app: Any, ledger: FakeLedger) -> Any:
    @app.task(name="orders.once", bind=True, shared=False, bridge=TaskOptions(once=True))
    def body(task: Any) -> bool:
        return barriers.current() is not None

    app.finalize()
    return app.tasks["orders.once"]


def trace(app: Any, name: str, task_id: str = "id-1") -> Any:
    task = app.tasks[name]
    request = {"id": task_id, "delivery_info": {}, "is_eager": False}
    return build_tracer(name, task, app=app)(task_id, ["o-1"] if name == "orders.place" else [], {}, request)


def test_only_what_needs_it_is_wrapped(app: Any, once: Any, ledger: FakeLedger) -> None:
    before = {name: task.run for name, task in app.tasks.items()}
    wrap_bodies(app, "here", lambda _: Once(ledger, 1.0), in_barrier=False)
    assert {name for name, task in app.tasks.items() if "run" in task.__dict__} == {"orders.once"}
    assert {name for name, task in app.tasks.items() if task.run != before[name]} == {"orders.once"}


def test_wrapping_twice_is_wrapping_once(app: Any, once: Any, ledger: FakeLedger) -> None:
    wrap_bodies(app, "here", lambda _: Once(ledger, 1.0), in_barrier=True)
    run = once.run
    wrap_bodies(app, "here", lambda _: Once(ledger, 1.0), in_barrier=True)
    assert once.run is run


def test_a_tracer_that_was_built_before_is_built_anew(app: Any, once: Any, ledger: FakeLedger) -> None:
    once.__trace__ = build_tracer(once.name, once, app=app)
    wrap_bodies(app, "here", lambda _: Once(ledger, 1.0), in_barrier=False)
    once.__trace__("id-1", [], {}, {"id": "id-1", "delivery_info": {}, "is_eager": False})
    assert len(ledger.endings) == 1


def test_bodies_run_in_a_barrier_where_the_project_publishes_so(app: Any, once: Any, ledger: FakeLedger) -> None:
    settler = Settler()

    @app.task(name="orders.many", shared=False)
    def many() -> int:
        scope = barriers.current()
        assert scope is not None
        scope.add(settler, "a publish")
        return len(settler.settled)

    wrap_bodies(app, "here", lambda _: Once(ledger, 1.0), in_barrier=True)
    assert trace(app, "orders.many").retval == 0
    assert settler.settled == ["a publish"]
    assert trace(app, "orders.once").retval is True


def test_a_body_that_is_called_directly_opens_no_barrier(app: Any, once: Any, ledger: FakeLedger) -> None:
    wrap_bodies(app, "here", lambda _: Once(ledger, 1.0), in_barrier=True)
    assert once() is False


def test_nothing_takes_effect_when_a_publish_may_be_lost(app: Any, ledger: FakeLedger) -> None:
    settler = Settler()
    settler.error = PublishAmbiguous("nobody knows")

    @app.task(name="orders.loses", shared=False, bridge=TaskOptions(once=True))
    def loses() -> None:
        ledger.effects.append("effect")
        scope = barriers.current()
        assert scope is not None
        scope.add(settler, "a publish")

    app.finalize()
    wrap_bodies(app, "here", lambda _: Once(ledger, 1.0), in_barrier=True)
    assert trace(app, "orders.loses").info.state == "FAILURE"
    assert ledger.effects == []


@pytest.fixture
def quiet() -> Iterator[None]:
    """Only this test's receivers."""
    connected = (signals.worker_init, signals.worker_process_init)
    before = [list(signal.receivers) for signal in connected]
    for signal in connected:
        signal.receivers[:] = []
    yield
    for signal, receivers in zip(connected, before, strict=True):
        signal.receivers[:] = receivers


@pytest.mark.usefixtures("quiet")
def test_workers_wrap_when_they_begin(app: Any, once: Any, ledger: FakeLedger) -> None:
    class Worker(NamedTuple):
        app: Any
        hostname: str

    bridged: list[Any] = []
    connect_bodies(lambda one: one in bridged, lambda _: Once(ledger, 1.0), lambda _: False)
    signals.worker_init.send(sender=Worker(app, "w@here"))
    assert "run" not in once.__dict__
    bridged.append(app)
    signals.worker_init.send(sender=Worker(app, "w@here"))
    assert "run" in once.__dict__


@pytest.mark.usefixtures("quiet")
def test_processes_of_a_pool_wrap_what_has_come_since(app: Any, once: Any, ledger: FakeLedger) -> None:
    connect_bodies(lambda one: one is app, lambda _: Once(ledger, 1.0), lambda _: False)
    app.set_current()
    try:
        signals.worker_process_init.send(sender="w@here")
    finally:
        app._pool = None
    assert "run" in once.__dict__
