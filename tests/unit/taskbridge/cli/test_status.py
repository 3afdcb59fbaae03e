from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from taskbridge.adapters.kafka.admin import Lag, PartitionLag
from taskbridge.cli.status import status
from taskbridge.cutover import Fence, Flag, Stage
from taskbridge.exceptions import BrokerUnavailable, ConfigurationError, StoreUnavailable
from taskbridge.settings import ServiceSettings
from taskbridge.testing import settings


class FakeStore:
    """Flags and counts that a test sets."""

    def __init__(self) -> None:
        changed = datetime.now(UTC) - timedelta(hours=3)
        self.states = {"orders": SimpleNamespace(flag=Flag("orders", Stage.LIVE, 1_250, 4, 9), changed_at=changed)}
        self.tasks: dict[str, SimpleNamespace] = {}
        self.error: StoreUnavailable | None = None

    def flag_states(self) -> dict[str, SimpleNamespace]:
        if self.error is not None:
            raise self.error
        return self.states

    def task_flag_states(self, service: str) -> dict[str, SimpleNamespace]:
        return self.tasks if service == "orders" else {}

    def pending_counts(self) -> dict[str, dict[str, int]]:
        return {"delayed": {"orders": 1234}, "outbox": {}}


class FakeAdmin:
    """A Kafka in which only `orders` has topics."""

    live = (PartitionLag(0, 5, 12, 3), PartitionLag(1, 0, 6))
    error: Exception | None = None

    def __init__(self, _: object, timeout: float) -> None:
        assert timeout <= 5

    def lag(self, service: str, role: str) -> Lag:
        if self.error is not None:
            raise self.error
        group = f"shop.{service}" if role == "live" else f"shop.{service}.shadow"
        if service != "orders":
            return Lag(group, group, (), "the topic does not exist")
        if role == "shadow":
            return Lag(group, group, (PartitionLag(0, 0, 0),))
        known = all(item.lag is not None for item in self.live)
        return Lag(group, group, self.live, "" if known else "no committed or end offset for partition 1")

    def depth(self, topic: str) -> int | None:
        return 2 if topic == "shop.orders.dlq" else None


class World:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.store = FakeStore()
        self.queued: dict[str, int] = {"orders": 7}
        self.celery_error: Exception | None = None
        services = (ServiceSettings("orders", queues=("orders",)), ServiceSettings("fraud", tasks=("f.*",)))
        bridge = SimpleNamespace(app=None, settings=settings(*services, prefix="shop"), store=self.store)
        monkeypatch.setattr("taskbridge.cli.context.load_bridge", lambda _: bridge)
        monkeypatch.setattr("taskbridge.cli.status.KafkaAdmin", FakeAdmin)
        monkeypatch.setattr("taskbridge.cli.status.depth", self.depth)

    def depth(self, _: Any, queues: Iterable[str]) -> int:
        if self.celery_error is not None:
            raise self.celery_error
        return sum(self.queued[queue] for queue in queues)

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(status, arguments, obj="project", catch_exceptions=False)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


def cells(output: str, service: str) -> list[str]:
    (line,) = [line for line in output.splitlines() if line.startswith(service)]
    return line.split()


def test_one_line_for_each_service(world: World) -> None:
    result = world.run()

    assert result.exit_code == 0
    # Ten records are behind the committed offsets, and three of them are finished out of order.
    assert cells(result.output, "orders") == ["orders", "live", "12.5%", "4", "3h", "10", "0", "1,234", "0", "2", "7"]
    assert cells(result.output, "fraud") == ["fraud", "off", "0", "-", "-", "-", "0", "0", "-", "-"]
    assert max(len(line) for line in result.output.splitlines()) <= 80


def test_one_service_as_json(world: World) -> None:
    document = json.loads(world.run("orders", "--json").output)

    since = world.store.states["orders"].changed_at.isoformat()
    assert document == {
        "services": [
            {
                "service": "orders",
                "stage": "live",
                "percent": 12.5,
                "epoch": 4,
                "since": since,
                "hold": False,
                "fenced": False,
                "tasks": [],
                "lag_live": {"total": 10, "complete": True, "why": ""},
                "lag_shadow": {"total": 0, "complete": True, "why": ""},
                "delayed": 1234,
                "outbox": 0,
                "dead_letters": 2,
                "celery_queued": 7,
            }
        ],
        "problems": [],
    }


def test_hold_fence_and_tasks_of_their_own(world: World) -> None:
    orders = world.store.states["orders"]
    orders.flag = replace(orders.flag, stage=Stage.SHADOW, hold=True, fence=Fence(0, 5, frozenset({"celery"})))
    flag = Flag("orders", Stage.LIVE, 500, 2, 11, task="shop.export")
    world.store.tasks = {"shop.export": SimpleNamespace(flag=flag, changed_at=orders.changed_at)}

    result = world.run()

    assert result.output.splitlines()[2].split()[1:3] == ["shadow", "12.5%"]
    assert "\norders is held\norders: keys change side, and their messages wait" in result.output
    assert "\norders: shop.export is live 5%\n" in result.output
    (found,) = json.loads(world.run("orders", "--json").output)["services"]
    assert (found["hold"], found["fenced"]) == (True, True)
    since = orders.changed_at.isoformat()
    task = {"task": "shop.export", "stage": "live", "percent": 5.0, "epoch": 2, "since": since, "hold": False}
    assert found["tasks"] == [task]


def test_a_lag_that_is_not_complete_is_marked_and_explained(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeAdmin, "live", (PartitionLag(0, 5, 12), PartitionLag(1, None, 6)))
    result = world.run("orders")

    assert result.exit_code == 3
    assert "7?" in cells(result.output, "orders")
    assert "the lag of group shop.orders is not complete: no committed or end offset" in " ".join(result.output.split())


def test_what_one_server_does_not_say_the_others_do(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeAdmin, "error", BrokerUnavailable("Kafka at a:1 did not answer"))
    result = world.run("orders")
    assert result.exit_code == 3
    assert cells(result.output, "orders") == ["orders", "live", "12.5%", "4", "3h", "-", "-", "1,234", "0", "-", "7"]
    assert result.output.count("! Kafka at a:1 did not answer") == 1

    world.store.error = StoreUnavailable("the database is away")
    world.celery_error = BrokerUnavailable("Celery's broker is away")
    result = world.run("orders", "--json")
    assert result.exit_code == 3
    document = json.loads(result.output)
    assert document["problems"] == [
        "the database is away",
        "Kafka at a:1 did not answer",
        "Celery's broker is away",
    ]
    assert {value for name, value in document["services"][0].items() if name != "service"} == {None}


def test_wrong_use(world: World) -> None:
    with pytest.raises(ConfigurationError, match="there is no service 'order'; TASKBRIDGE names: fraud, orders"):
        world.run("order")
    result = world.run("--watch", "--json")
    assert result.exit_code == 2
    assert "leave out --json" in result.output
