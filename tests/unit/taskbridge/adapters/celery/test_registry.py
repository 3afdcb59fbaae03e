"""What a Celery app tells of its tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from celery import Task
from celery.schedules import crontab
from kombu.common import Broadcast

from taskbridge.adapters.celery.registry import describe_app, source_roots
from taskbridge.scan.facts import App
from taskbridge.scan.facts import Task as Described

pytestmark = pytest.mark.filterwarnings(r"ignore:\s*The '(priority|queue)' task attribute")


class Based(Task):  # type: ignore[misc]
    abstract = True


def described(app: Any, name: str = "orders.declared") -> Described:
    return next(task for task in describe_app(app).tasks if task.name == name)


def declare(app: Any, **options: Any) -> None:
    @app.task(name="orders.declared", shared=False, **options)
    def declared(order_id: int, note: str = "") -> None:
        return None


def test_code_place_and_arguments(app: Any) -> None:
    declare(app)
    task = described(app)
    assert task.code == f"{__name__}.declare.<locals>.declared"
    assert (Path(task.place.file).name, task.queue) == ("test_registry.py", "celery")
    assert [(item.name, item.required) for item in task.parameters] == [("order_id", True), ("note", False)]
    assert task.options == {}
    assert task.stops == ()


def test_self_and_the_wrapper_of_retries_are_seen_through(app: Any) -> None:
    @app.task(name="orders.bound", bind=True, autoretry_for=(KeyError, OSError), max_retries=9, shared=False)
    def bound(self: Any, order_id: int) -> None:
        return None

    task = described(app, "orders.bound")
    assert [item.name for item in task.parameters] == ["order_id"]
    assert task.code.endswith(".bound")
    assert task.options == {"bind": True, "autoretry_for": "KeyError, OSError", "max_retries": 9}


@pytest.mark.parametrize(
    ("options", "conf", "found"),
    [
        ({"acks_late": True, "time_limit": 5}, {}, {"acks_late": True, "time_limit": 5}),
        ({}, {"task_acks_late": True}, {"acks_late": True}),
        ({"serializer": "yaml"}, {}, {"serializer": "yaml"}),
        ({"base": Based}, {}, {"base": f"{__name__}.Based"}),
        ({}, {"task_routes": {"orders.*": {"priority": 4}}}, {"route_priority": 4}),
    ],
)
def test_options_as_they_are_in_force(
    app: Any, options: dict[str, Any], conf: dict[str, Any], found: dict[str, Any]
) -> None:
    app.conf.update(conf)
    declare(app, **options)
    assert described(app).options == found


def test_what_stops_a_task(app: Any) -> None:
    app.conf.task_queues = [Broadcast("all")]
    app.conf.task_routes = {"orders.declared": {"queue": "all"}}
    declare(app, rate_limit="1/s")
    assert [stop.feature for stop in described(app).stops] == ["rate_limit", "broadcast"]


@pytest.mark.parametrize(
    ("broker", "options", "timeout"),
    [
        ("redis://:secret@host/0", {}, 3600.0),
        ("redis://host", {"visibility_timeout": 43_200}, 43_200.0),
        ("amqp://host", {}, None),
        ("sqs://", {}, 1800.0),
    ],
)
def test_the_app_itself(app: Any, broker: str, options: dict[str, Any], timeout: float | None) -> None:
    app.conf.update(broker_url=broker, broker_transport_options=options, task_default_queue="mine")
    app.conf.beat_schedule = {
        "nightly": {"task": "orders.place", "schedule": crontab(hour=1)},
        "odd": {"schedule": 5},
    }
    found: App = describe_app(app)
    assert (found.broker, found.result_backend) == (broker.partition(":")[0], "cache+memory")
    assert (found.default_queue, found.visibility_timeout) == ("mine", timeout)
    assert [(entry.entry, entry.task) for entry in found.schedules] == [("nightly", "orders.place")]
    assert not any(task.name.startswith("celery.") for task in found.tasks)
    assert "secret" not in str(found)


def test_where_the_source_is(app: Any) -> None:
    declare(app)
    # No package has this file, so that it is read alone, not everything beside it.
    assert Path(__file__).resolve() in source_roots(app)
