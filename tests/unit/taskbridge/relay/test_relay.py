"""What the relay does with rows that are due, and with servers that are away."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import pytest

from taskbridge.cutover import BASIS_POINTS, Flag, Stage
from taskbridge.dispatch import Numbering
from taskbridge.exceptions import BrokerUnavailable, MalformedRecord, PublishAmbiguous, PublishError, PublishRefused
from taskbridge.observation import DispatchRow
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

    def get(self, service: str, task: str = "") -> Flag:
        assert service == "orders"
        return self.flag


class World:
    """A relay and everything around it."""

    def __init__(self, *, observe: bool = True, batch: int = 500) -> None:
        self.clock = Clock()
        self.tables = FakeTables(self.clock)
        self.kafka, self.celery, self.flags = FakeKafka(), FakeCelery(), FakeFlags()
        self.observer = RecordingObserver()
        self.sender = Sender(
            settings(ServiceSettings("orders", observe=observe), prefix="shop"),
            self.flags,
            self.kafka,
            self.celery,
            self.observer,
            Numbering(),
            wall=lambda: START + self.clock.now,
        )
        self.relay = Relay(self.tables, self.sender, batch, 0.25, self.clock, self.clock.sleep)

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


def test_the_outbox_goes_to_kafka_whatever_the_flag_says(world: World) -> None:
    world.flags.flag = Flag("orders", Stage.OFF, epoch=9)
    world.tables.put("outbox", "a")

    world.relay.run(once=True)

    assert (world.kafka.sent, world.celery.sent) == (["a"], [])
    assert dict(world.kafka.records[0][1].headers)["bridge-epoch"] == b"1"


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
    assert [row.attempts for row in world.tables.rows["delayed"].values()] == [1, 0, 0]


def test_what_kafka_refuses_goes_to_celery(world: World) -> None:
    world.kafka.outcome = lambda _: REFUSED
    world.tables.put("delayed", "a")

    world.relay.run(once=True)

    assert world.celery.sent == ["a"]
    assert [(row.route, row.fallback) for row in world.rows] == [("celery", "refused")]
    assert world.tables.ids("delayed") == []


def test_what_kafka_refuses_of_the_outbox_stays_with_what_is_behind_it(world: World) -> None:
    world.kafka.outcome = lambda task_id: REFUSED if task_id == "a1" else None
    for task_id in ("a1", "a2", "b1"):
        world.tables.put("outbox", task_id, key=task_id[0])

    world.relay.run(once=True)

    assert (world.kafka.sent, world.celery.sent) == (["b1"], [])
    assert world.tables.ids("outbox") == ["a1", "a2"]
    assert [row.attempts for row in world.tables.rows["outbox"].values()] == [0, 0]


def test_a_row_that_was_cancelled_meanwhile_is_not_sent(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.tables.put("delayed", "a")
    world.tables.put("delayed", "b")
    choose = world.sender._choose

    def cancel_then_choose(*arguments: object) -> object:
        world.tables.rows["delayed"].pop(1, None)
        return choose(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(world.sender, "_choose", cancel_then_choose)
    world.relay.run(once=True)

    assert world.kafka.sent == ["b"]


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
    world.run_until(lambda: not world.tables.ids("delayed"), within=40)
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
    world.run_until(lambda: world.kafka.sent == ["a"], within=30)
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
    world.tables.put("outbox", "b", service="former")

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
