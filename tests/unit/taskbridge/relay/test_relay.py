"""What the relay does with rows that are due, and with servers that are away."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import pytest

from taskbridge.cutover import BASIS_POINTS, Fence, Flag, Stage
from taskbridge.dispatch import Numbering
from taskbridge.exceptions import (
    BrokerUnavailable,
    MalformedRecord,
    PublishAmbiguous,
    PublishError,
    PublishRefused,
    Unavailable,
)
from taskbridge.observation import DispatchRow
from taskbridge.ports import Road
from taskbridge.record import Message, Record
from taskbridge.relay import Relay, Sender
from taskbridge.routing import bucket
from taskbridge.settings import ServiceSettings
from taskbridge.testing import RecordingObserver, settings
from tests.unit.taskbridge.relay.tables import START, Clock, FakeTables

AMBIGUOUS = PublishAmbiguous("Kafka did not confirm a record in time")
REFUSED = PublishRefused("the record is too large")


class FakeKafka:
    """A ManyPublisher; `outcome` decides over a record by its task id."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.tried: list[str] = []
        self.records: list[tuple[str, Record]] = []
        self.outcome: Callable[[str], PublishError | None] = lambda task_id: None  # noqa: ARG005

    def publish_many(self, records: Sequence[tuple[str, Record]]) -> Sequence[PublishError | None]:
        outcomes = []
        for topic, record in records:
            task_id = dict(record.headers)["id"].decode()
            self.tried.append(task_id)
            outcomes.append(self.outcome(task_id))
            if outcomes[-1] is None:
                self.sent.append(task_id)
                self.records.append((topic, record))
        return outcomes


class FakeCelery:
    """A CeleryPublisher; `error` makes it fail."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.error: Exception | None = None

    def publish(self, message: Message) -> None:
        if self.error is not None:
            raise self.error
        self.sent.append(message.task_id)


class FakeFlags:
    def __init__(self) -> None:
        self.flag = Flag("orders", Stage.LIVE, BASIS_POINTS, epoch=4)
        self.asked: set[tuple[str, str]] = set()

    def get(self, service: str, task: str = "") -> Flag:
        self.asked.add((service, task))
        return self.flag


class FakeKeeper:
    """A Keeper that counts its looks; `error` makes it fail."""

    def __init__(self) -> None:
        self.looks = 0
        self.error: Unavailable | None = None

    def lift(self) -> None:
        self.looks += 1
        if self.error is not None:
            raise self.error


class World:
    """A relay and everything around it."""

    def __init__(self, *, observe: bool = True, batch: int = 500, ordered: bool = False) -> None:
        self.keeper = FakeKeeper()
        self.clock = Clock()
        self.tables = FakeTables(self.clock)
        self.kafka, self.celery, self.flags = FakeKafka(), FakeCelery(), FakeFlags()
        self.observer = RecordingObserver()
        self.sender = Sender(
            settings(ServiceSettings("orders", observe=observe, ordered=ordered), prefix="shop"),
            self.flags,
            self.kafka,
            self.celery,
            self.observer,
            Numbering(),
            wall=lambda: START + self.clock.now,
        )
        self.relay = Relay(self.tables, self.sender, batch, 0.25, self.clock, self.clock.sleep, [self.keeper])

    def run_until(self, condition: Callable[[], bool], within: float = 60.0) -> None:
        def sleep(seconds: float) -> None:
            self.clock.sleep(seconds)
            if condition() or self.clock.now > within:
                self.relay.stop()

        self.relay._sleep = sleep
        self.relay._stopping = False
        self.relay.run()
        assert condition()

    @property
    def rows(self) -> list[DispatchRow]:
        return [row for row in self.observer.rows if isinstance(row, DispatchRow)]


@pytest.fixture
def world() -> World:
    return World()


def test_a_due_row_goes_to_kafka_when_its_key_does(world: World) -> None:
    world.tables.put("delayed", "a", key="order-42")

    totals = world.relay.run(once=True)

    ((topic, record),) = world.kafka.records
    headers = dict(record.headers)
    assert (topic, record.key, record.value) == ("shop.orders", b"order-42", b"[[], {}, {}]")
    # Decided now, by the flag of now; dispatched by whoever dispatched it.
    assert (headers["bridge-route"], headers["bridge-epoch"]) == (b"kafka", b"4")
    assert (headers["bridge-producer"], headers["bridge-seq"]) == (b"web:1:ab", b"5")
    assert world.tables.ids("delayed") == []
    assert (totals.kafka, totals.celery) == (1, 0)


@pytest.mark.parametrize(
    "flag",
    [Flag("orders", Stage.OFF), Flag("orders", Stage.MIRROR), Flag("orders", Stage.LIVE, bucket("taskbridge", "k"))],
)
def test_a_due_row_goes_to_celery_when_its_key_does(world: World, flag: Flag) -> None:
    world.flags.flag = flag
    world.tables.put("delayed", "a", key="k")

    world.relay.run(once=True)

    assert (world.celery.sent, world.kafka.tried) == (["a"], [])
    assert world.rows[0].route == "celery"
    assert world.rows[0].stage == flag.stage


def test_what_is_for_kafka_only_goes_there_whatever_the_flag_says(world: World) -> None:
    world.flags.flag = Flag("orders", Stage.OFF, epoch=9)
    world.tables.put("outbox", "a")

    world.relay.run(once=True)

    assert (world.kafka.sent, world.celery.sent) == (["a"], [])
    assert dict(world.kafka.records[0][1].headers)["bridge-epoch"] == b"1"


@pytest.mark.parametrize(("stage", "road"), [(Stage.OFF, "celery"), (Stage.COMPLETE, "kafka")])
def test_a_row_of_the_outbox_may_leave_the_decision_to_the_flag_of_its_task(
    world: World, stage: Stage, road: str
) -> None:
    world.flags.flag = Flag("orders", stage, epoch=9)
    world.tables.put("outbox", "a", road="any")

    world.relay.run(once=True)

    assert {"celery": world.celery.sent, "kafka": world.kafka.sent}[road] == ["a"]
    assert world.flags.asked == {("orders", "shop.orders.place")}
    assert [(row.route, row.epoch, row.due) for row in world.rows] == [(road, 9, 0.0)]


def test_a_flag_that_the_claim_brings_along_is_the_one_that_counts(world: World) -> None:
    world.tables.flags = {"orders": Flag("orders", Stage.OFF, epoch=5)}
    world.tables.put("delayed", "a")

    world.relay.run(once=True)

    assert world.celery.sent == ["a"]
    assert world.flags.asked == set()


@pytest.mark.parametrize(
    ("road", "stage", "goes_to"),
    [
        ("kafka-again", Stage.OFF, "kafka"),
        ("celery-again", Stage.LIVE, "celery"),
        # Celery's broker may be gone for good.
        ("celery-again", Stage.COMPLETE, "kafka"),
    ],
)
def test_what_a_side_may_have_goes_to_no_other(world: World, road: Road, stage: Stage, goes_to: str) -> None:
    world.flags.flag = Flag("orders", stage, BASIS_POINTS if stage is Stage.LIVE else 0)
    world.tables.put("delayed", "a", road=road, attempts=1)

    world.relay.run(once=True)

    assert {"celery": world.celery.sent, "kafka": world.kafka.sent}[goes_to] == ["a"]
    assert [row.ambiguous for row in world.rows] == [1]


def test_a_publish_that_its_dispatcher_counted_is_not_counted_again(world: World) -> None:
    world.tables.put("outbox", "a", attempts=1)
    world.tables.put("outbox", "b", attempts=3)

    world.relay.run(once=True)

    assert {row.id: row.ambiguous for row in world.rows} == {"a": 0, "b": 2}


def test_keys_that_change_side_wait_and_what_only_kafka_may_have_does_not(world: World) -> None:
    number = bucket("taskbridge", "changing")
    fence = Fence(number, number + 1, frozenset({"celery"}))
    world.flags.flag = Flag("orders", Stage.LIVE, BASIS_POINTS, fence=fence)
    world.tables.put("outbox", "a", key="changing", road="any")
    world.tables.put("outbox", "b", key="changing", attempts=1)
    world.tables.put("outbox", "c", key="another", road="any")
    world.tables.put("delayed", "d", key="changing")

    world.relay.run(once=True)

    assert world.kafka.sent == ["b", "c"]
    assert (world.tables.ids("outbox"), world.tables.ids("delayed")) == (["a"], ["d"])
    assert world.relay.trouble == {}


@pytest.mark.parametrize("ordered", [True, False])
def test_only_an_ordered_service_keeps_a_message_behind_one_that_waits_for_the_other_side(ordered: bool) -> None:
    world = World(ordered=ordered)
    world.flags.flag = Flag("orders", Stage.OFF)
    world.kafka.outcome = lambda _: AMBIGUOUS
    world.tables.put("outbox", "a", key="k", attempts=1)
    world.relay.run(once=True)
    world.tables.put("outbox", "b", key="k", road="any")
    world.tables.put("outbox", "c", key="another", road="any")

    world.relay.run(once=True)

    assert world.celery.sent == (["c"] if ordered else ["b", "c"])


def test_messages_of_an_ordered_key_never_overtake_each_other_by_the_other_side() -> None:
    world = World(ordered=True)
    world.flags.flag = Flag("orders", Stage.LIVE, BASIS_POINTS)
    world.celery.error = BrokerUnavailable("Redis is away")
    world.tables.put("outbox", "first", key="k", road="celery-again", attempts=1)
    world.tables.put("outbox", "second", key="k", road="any")

    world.relay.run(once=True)
    assert world.kafka.sent == []

    world.celery.error = None
    world.clock.now += 60
    world.relay.run(once=True)
    assert (world.celery.sent, world.kafka.sent) == (["first"], ["second"])


def test_held_messages_are_looked_after_before_the_tables_are_and_now_and_then_while_busy(world: World) -> None:
    world.relay.run(once=True)
    assert world.keeper.looks == 1

    world = World(batch=1)
    world.kafka.outcome = lambda _: world.clock.sleep(0.6)  # type: ignore[func-returns-value]
    for number in range(5):
        world.tables.put("delayed", f"{number}")
    world.relay.run(once=True)
    # Three seconds of sending, one look each second.
    assert world.keeper.looks in {3, 4}


def test_a_look_that_fails_stops_nothing(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.keeper.error = BrokerUnavailable("Kafka does not say its offsets")
    world.tables.put("delayed", "a")

    world.relay.run(once=True)

    assert world.kafka.sent == ["a"]
    assert world.relay.trouble == {"what held messages wait for": "Kafka does not say its offsets"}
    assert len(caplog.records) == 1


def test_rows_that_another_relay_has_do_not_keep_this_one_spinning(world: World) -> None:
    world.tables.put("delayed", "a")
    world.tables.busy = True

    world.run_until(lambda: world.clock.now > 5)

    assert world.tables.claims < 100


def test_what_is_sent_is_observed(world: World) -> None:
    world.tables.put("delayed", "a", key="k", due=-2.0)
    world.tables.put("delayed", "b", key="k", attempts=2)

    world.relay.run(once=True)

    first, second = world.rows
    assert first == DispatchRow(
        id="a",
        retries=1,
        nesting=0,
        task="shop.orders.place",
        key="k",
        route="kafka",
        epoch=4,
        seq=1,
        at=START,
        copy="none",
        body="268e02b400e1570d",
        stage="live",
        due=START - 2.0,
    )
    # Two publishes ended nobody knows how, and each of them explains one repeat.
    assert (second.id, second.seq, second.ambiguous) == ("b", 2, 2)


def test_a_service_that_is_not_observed_is_not(world: World) -> None:
    world = World(observe=False)
    world.tables.put("delayed", "a")

    world.relay.run(once=True)

    assert world.kafka.sent == ["a"]
    assert world.rows == []


def test_the_messages_of_a_key_leave_in_order_however_batches_fall() -> None:
    world = World(batch=3)
    for number in range(20):
        world.tables.put("delayed", f"{number}", key=f"k{number % 4}", due=-20 + number)

    world.relay.run(once=True)

    for key in range(4):
        assert [task for task in world.kafka.sent if int(task) % 4 == key] == [str(n) for n in range(key, 20, 4)]


def test_none_overtakes_a_message_of_its_key_that_failed(world: World) -> None:
    world.kafka.outcome = lambda task_id: AMBIGUOUS if task_id == "a1" else None
    for task_id in ("a1", "a2", "b1", "b2"):
        world.tables.put("delayed", task_id, key=task_id[0])

    world.relay.run(once=True)

    assert world.kafka.sent == ["b1"]
    assert world.tables.ids("delayed") == ["a1", "a2", "b2"]
    # Only of a1 nobody knows whether Kafka has it.
    assert [row.pending.attempts for row in world.tables.rows["delayed"].values()] == [1, 0, 0]


def test_what_kafka_refuses_goes_to_celery(world: World) -> None:
    world.kafka.outcome = lambda _: REFUSED
    world.tables.put("delayed", "a")

    world.relay.run(once=True)

    assert world.celery.sent == ["a"]
    assert [(row.route, row.fallback) for row in world.rows] == [("celery", "refused")]
    assert world.tables.ids("delayed") == []


@pytest.mark.parametrize(
    ("stage", "attempts", "ordered"),
    [(Stage.LIVE, 1, False), (Stage.COMPLETE, 0, False), (Stage.LIVE, 0, True)],
    ids=["Kafka may have it", "there is nothing but Kafka", "its key has its order there"],
)
def test_what_kafka_refuses_may_have_no_other_way_and_stays_with_what_is_behind_it(
    stage: Stage, attempts: int, ordered: bool, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(ordered=ordered)
    world.flags.flag = Flag("orders", stage, BASIS_POINTS if stage is Stage.LIVE else 0)
    world.kafka.outcome = lambda task_id: REFUSED if task_id == "a1" else None
    for task_id in ("a1", "a2", "b1"):
        world.tables.put("outbox", task_id, key=task_id[0], attempts=attempts)

    world.relay.run(once=True)
    world.relay.run(once=True)

    assert (world.kafka.sent, world.celery.sent) == (["b1"], [])
    assert world.tables.ids("outbox") == ["a1", "a2"]
    assert [row.pending.attempts for row in world.tables.rows["outbox"].values()] == [attempts, attempts]
    assert [record.message for record in caplog.records] == [
        f"shop.orders.place[a1] stays in taskbridge_outbox: {REFUSED}"
    ]


def test_nothing_passes_what_kafka_refused_and_celery_did_not_take(world: World) -> None:
    world.kafka.outcome = lambda task_id: REFUSED if task_id == "a1" else None
    world.celery.error = BrokerUnavailable("Redis is away")
    for task_id in ("a1", "a2"):
        world.tables.put("delayed", task_id, key="k")

    world.relay.run(once=True)

    assert world.kafka.sent == []
    # Celery may have it, so Kafka is not asked again.
    assert [row.pending.road for row in world.tables.rows["delayed"].values()] == ["celery-again", "any"]


def test_a_commit_that_fails_leaves_the_rows_and_a_mark_that_explains_the_repeat(world: World) -> None:
    world.tables.put("delayed", "a")
    world.tables.breaks_at_commit = True

    world.relay.run(once=True)
    assert world.relay.trouble == {"the database": "the connection broke"}
    assert world.rows == []

    world.tables.breaks_at_commit = False
    world.clock.now += 60
    world.relay.run(once=True)
    assert world.kafka.sent == ["a", "a"]
    assert [(row.id, row.ambiguous) for row in world.rows] == [("a", 1)]


def test_a_road_that_is_down_does_not_stop_the_other() -> None:
    world = World(batch=2)
    world.flags.flag = Flag("orders", Stage.LIVE, 5_000)
    world.celery.error = BrokerUnavailable("Redis is away")
    keys = [f"k{number}" for number in range(10)]
    to_kafka = [key for key in keys if bucket("taskbridge", key) < 5_000]
    assert 0 < len(to_kafka) < len(keys)
    for key in keys:
        world.tables.put("delayed", key)

    world.relay.run(once=True)

    assert world.kafka.sent == to_kafka
    assert world.tables.ids("delayed") == [key for key in keys if key not in to_kafka]
    assert world.relay.trouble == {"Celery's broker": "Redis is away"}


def test_while_kafka_is_away_one_message_tries_it_and_a_change_is_logged_once(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "taskbridge.relay")
    world.kafka.outcome = lambda _: AMBIGUOUS
    for number in range(5):
        world.tables.put("delayed", f"{number}")

    world.run_until(lambda: world.clock.now > 20)

    # The first attempt is made before it is known that Kafka is away; then one message every few seconds.
    assert world.kafka.tried[:5] == ["0", "1", "2", "3", "4"]
    assert set(world.kafka.tried[5:]) == {"0"}
    assert 5 <= len(world.kafka.tried[5:]) <= 10
    assert [record.message for record in caplog.records] == [
        f"Kafka does not answer; messages are kept and tried again: {AMBIGUOUS}"
    ]

    world.kafka.outcome = lambda _: None
    world.run_until(lambda: not world.tables.ids("delayed"), within=90)
    assert world.kafka.sent == ["0", "1", "2", "3", "4"]
    assert caplog.records[-1].message == "Kafka answers again"
    assert world.relay.trouble == {}


def test_while_the_database_is_away_the_relay_waits_for_it(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.tables.put("delayed", "a")
    world.tables.available = False
    world.run_until(lambda: world.clock.now > 20)
    assert len(caplog.records) == 1
    assert max(world.clock.naps) <= 0.25

    world.tables.available = True
    world.run_until(lambda: world.kafka.sent == ["a"], within=90)
    assert [record.message for record in caplog.records][1:] == ["the database answers again"]


def test_an_idle_relay_sleeps_until_a_row_is_due_and_never_longer_than_the_poll_interval(world: World) -> None:
    world.tables.put("delayed", "a", due=0.6)

    world.run_until(lambda: world.kafka.sent == ["a"])

    assert world.clock.naps[:3] == [0.25, 0.25, pytest.approx(0.1)]
    assert world.rows[0].at == pytest.approx(START + 0.6)


def test_rows_that_cannot_be_sent_do_not_keep_the_relay_spinning(world: World) -> None:
    world.celery.error = MalformedRecord("its properties are not JSON")
    world.flags.flag = Flag("orders", Stage.OFF)
    world.tables.put("delayed", "a")

    world.run_until(lambda: world.clock.now > 5)

    assert world.tables.claims < 100
    assert world.tables.ids("delayed") == ["a"]


def test_a_message_that_celery_cannot_be_given_stays_and_is_named_once(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.celery.error = MalformedRecord("its properties are not JSON")
    world.flags.flag = Flag("orders", Stage.OFF)
    world.tables.put("delayed", "a")

    world.relay.run(once=True)
    world.relay.run(once=True)

    assert [record.message for record in caplog.records] == [
        "row 1 of taskbridge_delayed, shop.orders.place[a], stays: its properties are not JSON"
    ]


def test_a_service_that_is_no_longer_configured(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.tables.put("delayed", "a", service="former")
    world.tables.put("outbox", "b", service="former", attempts=1)

    world.relay.run(once=True)

    assert world.celery.sent == ["a"]
    assert world.tables.ids("outbox") == ["b"]
    assert "TASKBRIDGE names no service 'former' any more" in caplog.text


def test_told_to_stop_it_finishes_its_batch() -> None:
    world = World(batch=2)
    for number in range(6):
        world.tables.put("delayed", f"{number}")

    def stop(task_id: str) -> None:
        if task_id == "0":
            world.relay.stop()

    world.kafka.outcome = stop
    world.relay.run()

    assert world.kafka.sent == ["0", "1"]
    assert world.tables.ids("delayed") == ["2", "3", "4", "5"]


def test_what_others_see_of_it(world: World) -> None:
    world.tables.available = False
    began = world.relay.turned_at
    world.run_until(lambda: world.clock.now > 20)
    assert not world.relay.reached
    assert world.relay.failures["the database"] >= 3
    assert world.clock.now - world.relay.turned_at < 1.0, "it comes round while a server is away"
    assert world.relay.turned_at > began

    failures = world.relay.failures["the database"]
    world.tables.available = True
    world.kafka.outcome = lambda _: AMBIGUOUS
    world.tables.put("outbox", "a", attempts=1)
    world.run_until(lambda: bool(world.relay.failures["Kafka"]))
    assert world.relay.reached
    assert world.relay.failures == {"the database": failures, "Kafka": 1}
