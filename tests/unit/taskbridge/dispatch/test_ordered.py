"""Which way a message of an ordered service goes, and which it must not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from taskbridge.cutover import Fence, Flag, FlagCache, Stage
from taskbridge.dispatch import Dispatcher, Outgoing
from taskbridge.dispatch.ordered import GateBusy
from taskbridge.exceptions import (
    ConfigurationError,
    MessageTooLarge,
    PublishAmbiguous,
    PublishRefused,
    StoreUnavailable,
)
from taskbridge.observation import DispatchRow
from taskbridge.ports import PendingMessage, Road
from taskbridge.record import Message, Record
from taskbridge.routing import bucket
from taskbridge.settings import ServiceSettings
from taskbridge.testing import FakeFlags, FakePending, FakePublisher, RecordingObserver, settings

NOW = 1_760_000_000.0

ALL = Fence(0, 10_000, frozenset({"celery"}))


class Gate:
    """A gate whose database is what a test says; `open_now` counts those inside."""

    def __init__(self) -> None:
        self.flag = Flag("orders", Stage.LIVE, 10_000, epoch=7)
        self.waiting: Road | None = None
        self.kept: list[PendingMessage] = []
        self.entry: Exception | None = None
        self.exit: Exception | None = None
        self.opened = 0
        self.open_now = 0

    @contextmanager
    def open(self, service: str, key: str) -> Iterator[Gate]:
        if self.entry is not None:
            raise self.entry
        self.opened += 1
        self.open_now += 1
        yield self
        self.open_now -= 1
        if self.exit is not None:
            raise self.exit

    def keep(self, pending: PendingMessage) -> None:
        self.kept.append(pending)


class Copies(FakePublisher):
    """The shadow topic."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def offer(self, topic: str, record: Record) -> bool:
        self._world.log.append(("copy", self._world.gate.open_now))
        return super().offer(topic, record)


class World:
    """A dispatcher of an ordered service among doubles; `log` says who took what, and whether inside the gate."""

    def __init__(self) -> None:
        self.settings = settings(ServiceSettings("orders", tasks=("orders.*",), ordered=True), max_message_bytes=1_000)
        self.gate = Gate()
        self.flags, self.observer = FakeFlags(), RecordingObserver()
        self.log: list[tuple[str, int]] = []
        self.kafka = FakePublisher(lambda *_: self.log.append(("kafka", self.gate.open_now)))
        self.copies = Copies(self)
        self.pending = FakePending()
        self.dispatcher = Dispatcher(
            self.settings,
            FlagCache(self.flags, {"orders": Stage.OFF}, lambda: 0.0, max_age=0.0),
            self.kafka,
            self.copies,
            self.pending,
            self.observer,
            wall=lambda: NOW,
            clock=lambda: 0.0,
            gates=self.gate,
        )

    def send(self, key: str = "k", **changes: Any) -> Any:
        def to_celery() -> str:
            self.log.append(("celery", self.gate.open_now))
            return "celery's answer"

        body = changes.pop("body", b"[[],{},{}]")
        message = Message("orders.place", "id", body, "application/json", "utf-8", b"{}", b"{}")
        unsupported: Callable[[], str] = changes.pop("unsupported", lambda: "")
        build: Callable[[], Message] = changes.pop("message", lambda: message)
        service = self.settings.services["orders"]
        outgoing = Outgoing(service, "orders.place", "id", 0, 0, key, body, to_celery, build, unsupported, **changes)
        return self.dispatcher.dispatch(self.dispatcher.flag("orders"), outgoing)

    def count(self, *what: Any) -> list[int]:
        return [self.dispatcher.counters.get("orders", one) for one in what]

    @property
    def row(self) -> DispatchRow:
        [row] = self.observer.rows
        assert isinstance(row, DispatchRow)
        return row


@pytest.fixture
def world() -> World:
    one = World()
    one.flags.set("orders", Stage.MIRROR)
    return one


def test_the_flag_behind_the_gate_decides_and_not_the_one_in_the_cache(world: World) -> None:
    assert world.send() is None
    assert world.log == [("kafka", 1)], "published while no transition can pass"
    assert (world.row.route, world.row.stage, world.row.epoch) == ("kafka", "live", 7)


def test_celery_gets_its_message_inside_the_gate_and_the_copy_follows_outside(world: World) -> None:
    world.gate.flag = Flag("orders", Stage.MIRROR, epoch=3)
    assert world.send() == "celery's answer"
    assert world.log == [("celery", 1), ("copy", 0)]
    assert (world.row.route, world.row.copy) == ("celery", "sent")


def test_a_service_that_is_off_and_has_no_fence_does_not_ask_the_database(world: World) -> None:
    world.flags.set("orders", Stage.OFF)
    world.send()
    assert (world.gate.opened, world.log) == (0, [("celery", 0)])


def test_a_service_that_is_off_asks_while_its_keys_are_still_on_their_way_back(world: World) -> None:
    world.flags.set("orders", Stage.OFF, fence=Fence(0, 10_000, frozenset({"kafka"})))
    world.gate.flag = Flag("orders", Stage.OFF, fence=Fence(0, 10_000, frozenset({"kafka"})))
    world.send()
    assert [pending.road for pending in world.gate.kept] == ["held"]
    assert world.log == []


@pytest.mark.parametrize(
    ("fence", "waiting", "road"),
    [
        (ALL, None, "held"),
        (ALL, "any", "held"),
        (None, "any", "any"),
        # Behind one that is held, even where the fence does not reach.
        (None, "held", "held"),
        # Lifted: what waits goes first, nothing more is held.
        (Fence(0, 10_000, frozenset()), "any", "any"),
    ],
)
def test_a_message_waits_behind_those_of_its_key(
    world: World, fence: Fence | None, waiting: Road | None, road: Road
) -> None:
    world.gate.flag = Flag("orders", Stage.LIVE, 10_000, fence=fence)
    world.gate.waiting = waiting
    assert world.send() is None
    [kept] = world.gate.kept
    assert (kept.road, kept.attempts, kept.key, world.log) == (road, 0, "k", [])
    assert (world.row.route, world.row.due) == ("delayed", NOW)
    assert world.count("queued", "kafka", "celery") == [1, 0, 0]


def test_keys_outside_the_fence_go_on_and_those_of_a_lifted_one_too(world: World) -> None:
    number = bucket(world.settings.salt, "k")
    for fence in (Fence(0, number, frozenset({"celery"})), Fence(0, 10_000, frozenset())):
        world.gate.flag = Flag("orders", Stage.LIVE, 10_000, fence=fence)
        world.send()
    assert world.log == [("kafka", 1), ("kafka", 1)]


def test_what_kafka_refused_waits_instead_of_passing_on_the_other_side(world: World) -> None:
    world.kafka.error = PublishRefused("queue full")
    assert world.send() is None
    assert [(kept.road, kept.attempts) for kept in world.gate.kept] == [("any", 0)]
    assert [name for name, _ in world.log] == ["kafka"]
    assert world.count("refused", "queued", "celery") == [1, 1, 0]


def test_what_kafka_may_have_goes_there_again_and_the_next_ones_wait(world: World) -> None:
    world.kafka.error = PublishAmbiguous("no answer")
    world.send()
    world.send("another")
    assert [(kept.road, kept.attempts) for kept in world.gate.kept] == [("kafka", 1), ("any", 0)]
    assert world.count("ambiguous", "kafka", "breaker", "queued") == [1, 1, 1, 1]
    assert [name for name, _ in world.log] == ["kafka"], "the second was not tried"


def test_what_is_not_due_gives_up_its_place(world: World) -> None:
    world.flags.set("orders", Stage.LIVE, 10_000)
    world.send(due=NOW + 60)
    assert (len(world.pending.delayed), world.gate.opened) == (1, 0)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"unsupported": lambda: "priority"}, r"cannot keep its order on Kafka.*\(priority\)"),
        ({"body": b"x" * 2_000}, r'exceeds TASKBRIDGE\["max_message_bytes"\], 1,000'),
    ],
)
def test_what_kafka_cannot_do_is_an_error_and_not_a_message_on_the_other_side(
    world: World, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises((ConfigurationError, MessageTooLarge), match=said):
        world.send(**changes)
    assert (world.log, world.gate.kept, world.observer.rows) == ([], [], [])


def test_headers_that_are_not_json_are_an_error(world: World) -> None:
    def broken() -> Message:
        raise TypeError("a set")

    with pytest.raises(ConfigurationError, match="its headers are not JSON: a set"):
        world.send(message=broken)


def test_without_the_database_the_cached_flag_decides_and_that_is_counted(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.gate.entry = StoreUnavailable("the database is away")
    assert world.send() == "celery's answer"
    assert world.log == [("celery", 0), ("copy", 0)]
    assert world.count("unfenced") == [1]
    assert "is not sure of its place: the database is away" in caplog.text


def test_a_gate_that_stays_shut_is_an_error_because_order_could_still_be_kept(world: World) -> None:
    world.gate.entry = GateBusy("a transition hangs")
    with pytest.raises(GateBusy):
        world.send()
    assert (world.log, world.count("unfenced")) == ([], [0])


def test_a_message_that_went_out_is_not_reported_as_failed_when_the_lock_was_lost(world: World) -> None:
    world.gate.exit = StoreUnavailable("the connection broke")
    assert world.send() is None
    assert (world.log, world.count("unfenced", "kafka")) == ([("kafka", 1)], [1, 1])


def test_a_message_that_was_to_be_kept_and_is_not_is_an_error(world: World) -> None:
    world.gate.waiting = "any"
    world.gate.exit = StoreUnavailable("the connection broke")
    with pytest.raises(StoreUnavailable, match="the connection broke"):
        world.send()
    assert world.observer.rows == []
