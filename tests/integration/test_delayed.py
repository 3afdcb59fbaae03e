"""What waits until it is due: listed, cancelled while relays are at work, and due by the database's clock."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from celery import Celery
from click.testing import CliRunner, Result
from confluent_kafka import Consumer, TopicPartition

from devstack.databases import fresh_database
from taskbridge.adapters.celery.resend import CeleryResender
from taskbridge.cli.delayed import delayed as delayed_command
from taskbridge.contrib.django import waiting
from taskbridge.contrib.django.claims import DjangoRelayStore
from taskbridge.contrib.django.store import DjangoStore
from taskbridge.contrib.django.waiting import Criteria, cancel, find
from taskbridge.cutover import BASIS_POINTS, Flag, Stage
from taskbridge.dispatch import Numbering
from taskbridge.exceptions import ConfigurationError
from taskbridge.observation import RunRow
from taskbridge.ports import PendingMessage
from taskbridge.record import Message
from taskbridge.relay import Relay, Sender
from taskbridge.settings import Settings
from taskbridge.testing import FakePublisher, RecordingObserver
from tests.project.harness import Project, project, wait_for

pytestmark = pytest.mark.services

SERVICES = {"orders": {"tasks": ["o.*"]}, "billing": {"tasks": ["b.*"]}}


def nothing() -> None:
    """Be a task."""


class Observer(RecordingObserver):
    def flush(self) -> None:
        """Everything has arrived."""


class World:
    """A bridge with a real database, and a Kafka and a result store that a test looks into."""

    def __init__(self, alias: str, redis_url: str) -> None:
        self.app = Celery("project", broker=redis_url, backend="cache+memory://", set_as_current=False)
        self.app.task(name="o.place")(nothing)
        self.app.task(name="o.quiet", ignore_result=True)(nothing)
        self.settings = Settings.from_mapping(
            {"services": SERVICES, "database": alias}, {"KAFKA_BOOTSTRAP_SERVERS": "localhost:1"}
        )
        self.store = DjangoStore(alias)
        self.stores = {alias: self.store}
        self.observer = Observer()
        self.numbering = Numbering()
        self.kafka = FakePublisher()
        self.flags = SimpleNamespace(get=lambda service, _="": Flag(service, Stage.LIVE, BASIS_POINTS))

    def put(
        self, task_id: str, task: str = "o.place", key: str = "k", due: float = 3600.0, service: str = "orders"
    ) -> None:
        headers = json.dumps({"id": task_id, "task": task, "root_id": task_id})
        properties = b'{"correlation_id": "x", "delivery_info": {"exchange": "", "routing_key": "q"}}'
        message = Message(task, task_id, b"[[], {}, {}]", "application/json", "utf-8", headers.encode(), properties)
        self.store.delay(PendingMessage(service, key, message, datetime.now(UTC) + timedelta(seconds=due), 1, "w", 1))

    def relay(self, batch: int = 5) -> Relay:
        sender = Sender(self.settings, self.flags, self.kafka, CeleryResender(self.app), self.observer, self.numbering)
        return Relay(DjangoRelayStore(self.store.sessions), sender, batch, poll=0.01)

    def find(self, **criteria: Any) -> list[waiting.Waiting]:
        return find(self.store.sessions, Criteria(**criteria))

    def sent(self) -> set[str]:
        return {dict(record.headers)["id"].decode() for _, record in self.kafka.records}

    def run(self, *arguments: str, answer: str | None = None) -> Result:
        return CliRunner().invoke(delayed_command, arguments, obj="project", input=answer, catch_exceptions=False)


@pytest.fixture
def world(alias: str, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    world = World(alias, redis_url)
    monkeypatch.setattr("taskbridge.cli.context.load_bridge", lambda _: world)
    yield world
    world.store.sessions.close()
    world.app.close()


def test_what_waits_is_listed_in_the_order_in_which_it_is_due(world: World) -> None:
    world.put("later", due=7200)
    world.put("sooner", key="order-1", due=1800)
    world.put("another", task="b.bill", service="billing", due=60)

    listed = json.loads(world.run("ls", "--json").output)
    assert listed["total"] == 3
    assert [one["task_id"] for one in listed["messages"]] == ["another", "sooner", "later"]
    sooner = listed["messages"][1]
    assert {name: sooner[name] for name in ("service", "task", "key", "attempts")} == {
        "service": "orders",
        "task": "o.place",
        "key": "order-1",
        "attempts": 0,
    }
    assert datetime.fromisoformat(sooner["due"]) - datetime.now(UTC) < timedelta(seconds=1800)

    for options, expected in (
        (("--service", "orders"), ["sooner", "later"]),
        (("--task", "b.*"), ["another"]),
        (("--task", "o.plac_"), []),
        (("--key", "order-1"), ["sooner"]),
        (("--due-before", "1h"), ["another", "sooner"]),
        (("--due-before", (datetime.now(UTC) + timedelta(minutes=5)).isoformat()), ["another"]),
        (("--limit", "1"), ["another"]),
    ):
        found = json.loads(world.run("ls", "--json", *options).output)
        assert [one["task_id"] for one in found["messages"]] == expected, options


def test_the_table_is_for_people(world: World) -> None:
    assert world.run("ls").output == "Nothing waits.\n"
    for number in range(3):
        world.put(f"task-{number}", key=f"order-{number}")

    shown = world.run("ls", "--limit", "2").output

    assert "task-0" in shown
    assert "order-1" in shown
    assert "59m" in shown
    assert "1 more" in shown
    assert "\x1b" not in shown


def test_a_service_that_does_not_exist_and_a_time_that_is_none(world: World) -> None:
    with pytest.raises(ConfigurationError, match="there is no service 'order'"):
        world.run("ls", "--service", "order")
    assert "neither a duration from now" in world.run("ls", "--due-before", "soon").output
    with pytest.raises(ConfigurationError, match="'x1' is no id of a message"):
        world.run("cancel", "x1")
    assert "either by ID" in world.run("cancel").output
    assert "either by ID" in world.run("cancel", "1", "--task-id", "a").output


def test_messages_are_cancelled_by_id(world: World, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("a", "b", "c"):
        world.put(name)
    ids = {row.task_id: str(row.id) for row in world.find()}

    planned = world.run("cancel", ids["a"], "--dry-run")
    assert "a[" not in planned.output
    assert "o.place[a]: would be cancelled" in planned.output
    assert len(world.find()) == 3

    refused = world.run("cancel", ids["a"], answer="n\n")
    assert refused.exit_code == 1
    assert len(world.find()) == 3

    done = world.run("cancel", ids["a"], ids["b"], answer="y\n")
    assert done.exit_code == 0
    assert f"{ids['a']}  o.place[a]: cancelled" in done.output
    assert [row.task_id for row in world.find()] == ["c"]
    assert world.app.AsyncResult("a").state == "REVOKED"
    assert [record.message.split(", due")[0].split(" ", 1)[1] for record in caplog.records] == [
        "cancelled task o.place[a]",
        "cancelled task o.place[b]",
    ]
    rows = [row for row in world.observer.rows if isinstance(row, RunRow)]
    assert [(row.id, row.outcome, row.started) for row in rows] == [("a", "revoked", 0.0), ("b", "revoked", 0.0)]


def test_what_is_not_there_any_more_is_said(world: World) -> None:
    world.put("a")
    (row,) = world.find()

    done = world.run("cancel", "--task-id", "a", "--task-id", "gone", "--json")

    assert done.exit_code == 1
    document = json.loads(done.output)
    assert [(one["task_id"], one["fate"]) for one in document["messages"]] == [("a", "cancelled")]
    assert document["unknown"] == ["gone"]
    again = world.run("cancel", str(row.id), "--yes")
    assert again.exit_code == 1
    assert again.output.startswith(f"{row.id}: not cancelled: nothing of that id waits")


def test_the_service_limits_what_is_cancelled(world: World) -> None:
    world.put("a")

    done = world.run("cancel", "--task-id", "a", "--service", "billing", "--yes")

    assert done.exit_code == 1
    assert len(world.find()) == 1


def test_a_task_without_a_result_or_without_its_code_is_cancelled_all_the_same(world: World) -> None:
    world.put("quiet", task="o.quiet")
    world.put("unknown", task="o.unknown")

    assert set(cancel(world, world.find(), "tester").values()) == {"cancelled"}  # type: ignore[arg-type]

    assert world.app.AsyncResult("quiet").state == "PENDING"
    assert world.app.AsyncResult("unknown").state == "REVOKED"


def test_a_result_store_that_fails_does_not_keep_a_message(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.put("a")

    def fail(*_: Any, **__: Any) -> None:
        raise ConnectionError("the result store is away")

    monkeypatch.setattr(world.app.backend, "mark_as_revoked", fail)
    assert set(cancel(world, world.find(), "tester").values()) == {"cancelled"}  # type: ignore[arg-type]

    assert world.find() == []
    assert "is cancelled, but its result does not say so" in caplog.text


def test_a_message_that_a_relay_has_in_its_hands_is_sent_and_not_cancelled(world: World) -> None:
    name = f"held-{uuid4().hex}"
    world.put(name, due=-1)
    (row,) = world.find()
    fates: list[str] = []
    with DjangoRelayStore(world.store.sessions).claim("delayed", 10) as claim:
        thread = threading.Thread(target=lambda: fates.extend(cancel(world, [row], "tester").values()))  # type: ignore[arg-type]
        thread.start()
        wait_for(lambda: waits_for_a_lock(world), "the wait for the relay")
        claim.begin({"kafka": [row.id], "celery": []})
        claim.finish([row.id], {})
    thread.join(60)

    assert fates == ["sent"]
    assert world.app.AsyncResult(name).state == "PENDING"


def test_a_relay_that_does_not_come_to_an_end_is_not_waited_for_for_ever(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.put("a", due=-1)
    monkeypatch.setattr(waiting, "LIMIT", 0.2)
    with DjangoRelayStore(world.store.sessions).claim("delayed", 10):
        done = world.run("cancel", "--task-id", "a", "--yes")

    assert done.exit_code == 1
    assert "a relay is sending it" in done.output
    assert len(world.find()) == 1


def test_each_message_is_either_sent_or_cancelled(world: World) -> None:
    for number in range(200):
        world.put(f"{number}", key=f"k{number}", due=-1)
    rows = world.find()
    relays = [world.relay() for _ in range(2)]
    threads = [threading.Thread(target=relay.run) for relay in relays]
    for thread in threads:
        thread.start()
    fates: dict[str, str] = {}
    # From the far end, so that both meet.
    for row in reversed(rows):
        fates |= {one.task_id: fate for one, fate in cancel(world, [row], "tester").items()}  # type: ignore[arg-type]
    wait_for(lambda: not world.find(), "an empty table")
    for relay in relays:
        relay.stop()
    for thread in threads:
        thread.join(60)

    cancelled = {task_id for task_id, fate in fates.items() if fate == "cancelled"}
    assert cancelled
    assert world.sent()
    assert not cancelled & world.sent()
    assert cancelled | world.sent() == {f"{number}" for number in range(200)}


def waits_for_a_lock(world: World) -> bool:
    with world.store.sessions.transaction(5.0) as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
        return bool(cursor.fetchone()[0])


@pytest.fixture(scope="module")
def live(bridged: Project) -> Project:
    bridged.stand("work", "live", 10_000)
    return bridged


@pytest.mark.parametrize("minutes", [-5, 5])
def test_a_dispatcher_whose_clock_is_wrong_is_late_or_early_for_nobody(live: Project, minutes: int) -> None:
    code = """
import datetime, time
real, now = time.time, app.now
shift = datetime.timedelta(minutes=MINUTES)
time.time = lambda: real() + shift.total_seconds()
app.now = lambda: now() + shift
right = datetime.datetime.fromtimestamp(real() + 1000, datetime.UTC)
ids = [tasks.add.apply_async((1, 2), countdown=1000).id, tasks.add.apply_async((1, 2), eta=right).id]
from django.db import connection
with connection.cursor() as cursor:
    cursor.execute("SELECT task_id, extract(epoch FROM due - now())::float FROM taskbridge_delayed")
    found = dict(cursor.fetchall())
print(json.dumps([found[one] for one in ids]))
""".replace("MINUTES", str(minutes))
    for seconds in live.script(code):
        assert 940 < seconds <= 1000


@pytest.fixture
def crowded(servers: dict[str, str], database_url: str, tmp_path: Path) -> Iterator[Project]:
    """The project on a database of its own, whose tables hold one row each."""
    with (
        fresh_database(database_url) as url,
        project(tmp_path, f"t{uuid4().hex[:10]}", {**servers, "DATABASE_URL": url}, BRIDGED_MAX_PENDING="1") as one,
    ):
        one.stand("work", "live", 10_000)
        yield one


def test_a_full_table_raises_at_dispatch_and_makes_a_retry_a_dead_letter(crowded: Project) -> None:
    crowded.script("print(json.dumps(tasks.add.apply_async((1, 2), countdown=3600).id))")
    console = crowded.console()

    refused = console.error("tasks.add.apply_async((1, 2), countdown=3600)")
    assert refused.startswith("OperationalError: the table taskbridge_delayed is full (1 rows)")

    (task_id,) = console.dispatch("flaky", 1, 3)
    crowded.kafka_worker(processes=1)

    letter = wait_for(lambda: dead_letters(crowded), "a dead letter")[0]
    assert (letter["id"], letter["dlq-reason"]) == (task_id, "rejected")
    assert "the table taskbridge_delayed is full" in letter["dlq-detail"]


def dead_letters(one: Project) -> list[dict[str, str]]:
    topic = f"{one.prefix}.work.dlq"
    consumer = Consumer({"bootstrap.servers": one.environment["KAFKA_BOOTSTRAP_SERVERS"], "group.id": "look"})
    try:
        found = []
        for number in consumer.list_topics(topic, 10.0).topics[topic].partitions:
            _, high = consumer.get_watermark_offsets(TopicPartition(topic, number), 10.0)
            consumer.assign([TopicPartition(topic, number, 0)])
            records = consumer.consume(high, 10.0) if high else []
            found += [{name: (value or b"").decode() for name, value in record.headers() or ()} for record in records]
        return found
    finally:
        consumer.close()
