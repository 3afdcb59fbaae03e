"""The relay between a real PostgreSQL, a real Kafka and a real Redis."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from click.testing import CliRunner
from confluent_kafka import Consumer, TopicPartition
from django.db import connections
from kombu import pools

from taskbridge.adapters.celery.resend import CeleryResender
from taskbridge.adapters.kafka.admin import KafkaAdmin
from taskbridge.adapters.kafka.producer import ConfirmedProducer
from taskbridge.cli.relay import relay as relay_command
from taskbridge.contrib.django.claims import DjangoRelayStore
from taskbridge.contrib.django.store import DjangoStore
from taskbridge.cutover import BASIS_POINTS, Flag, Stage
from taskbridge.dispatch import Numbering
from taskbridge.exceptions import ConfigurationError, Unavailable
from taskbridge.observation import DispatchRow
from taskbridge.ports import PendingMessage
from taskbridge.record import Message, decode
from taskbridge.relay import Claim, Relay, Sender, Side, Table, WaitingRow
from taskbridge.routing import bucket
from taskbridge.settings import Settings
from taskbridge.testing import FakeResender, RecordingObserver

pytestmark = pytest.mark.services

SERVICES = {"orders": {"tasks": ["o.*"], "partitions": 3}}


class FixedFlags:
    """Flags that a test sets."""

    def __init__(self) -> None:
        self.flag = Flag("orders", Stage.LIVE, BASIS_POINTS, epoch=2)

    def get(self, service: str, task: str = "") -> Flag:
        assert service == "orders"
        return self.flag


class World:
    """What relays share."""

    def __init__(self, alias: str, settings: Settings, producer: ConfirmedProducer) -> None:
        self.alias, self.settings, self.producer = alias, settings, producer
        self.store = DjangoStore(alias)
        self.flags = FixedFlags()
        self.celery = FakeResender()
        self.observer = RecordingObserver()
        self.tables = DjangoRelayStore(self.store.sessions)

    def relay(self, tables: Any = None, batch: int = 50) -> Relay:
        sender = Sender(self.settings, self.flags, self.producer, self.celery, self.observer, Numbering())
        return Relay(tables or self.tables, sender, batch, poll=0.02)

    def put(self, table: Table, task_id: str, key: str, due: float = -1.0) -> None:
        headers = b'{"id": "%s", "task": "o.place"}' % task_id.encode()
        message = Message("o.place", task_id, b"[[], {}, {}]", "application/json", "utf-8", headers, b"{}")
        when = datetime.now(UTC) + timedelta(seconds=due)
        put = self.store.delay if table == "delayed" else self.store.outbox
        put(PendingMessage("orders", key, message, when, 1, "web:1:ab", 1))

    @property
    def rows(self) -> list[DispatchRow]:
        return [row for row in self.observer.rows if isinstance(row, DispatchRow)]

    def waiting(self, table: str = "delayed") -> int:
        return self.store.pending_counts()[table].get("orders", 0)

    def on_kafka(self) -> list[tuple[str, str]]:
        """Return key and task id of each record, in the order of its partition."""
        topic = self.settings.topic("orders")
        consumer = Consumer(self.settings.kafka.client_config() | {"group.id": "test", "enable.auto.commit": False})
        expected = KafkaAdmin(self.settings).depth(topic)
        consumer.assign([TopicPartition(topic, number, 0) for number in range(3)])
        found = []
        deadline = time.monotonic() + 60
        while len(found) < (expected or 0):
            assert time.monotonic() < deadline
            for record in consumer.consume(1_000, 0.2):
                message, _ = decode(record.value(), record.headers())
                found.append(((record.key() or b"").decode(), message.task_id))
        consumer.close()
        return found


@pytest.fixture(scope="module")
def producer(kafka_bootstrap: str) -> ConfirmedProducer:
    mapping = {"services": SERVICES, "publish_timeout": 10.0}
    return ConfirmedProducer(Settings.from_mapping(mapping, {"KAFKA_BOOTSTRAP_SERVERS": kafka_bootstrap}))


@pytest.fixture
def world(alias: str, kafka_bootstrap: str, topic_prefix: str, producer: ConfirmedProducer) -> Iterator[World]:
    settings = Settings.from_mapping(
        {"prefix": topic_prefix, "services": SERVICES}, {"KAFKA_BOOTSTRAP_SERVERS": kafka_bootstrap}
    )
    KafkaAdmin(settings).ensure_topics(["orders"])
    world = World(alias, settings, producer)
    yield world
    world.store.sessions.close()


def test_many_relays_send_each_message_once_and_each_key_in_order(world: World) -> None:
    world.flags.flag = Flag("orders", Stage.LIVE, 5_000, epoch=2)
    for number in range(600):
        world.put("delayed", f"{number}", key=f"k{number % 37}", due=-600 + number)
    # The due times of one instant still have the order of their rows.
    relays = [world.relay(batch=20) for _ in range(3)]
    threads = [threading.Thread(target=relay.run) for relay in relays]
    for thread in threads:
        thread.start()
    wait_for(lambda: world.waiting() == 0)
    for relay in relays:
        relay.stop()
    for thread in threads:
        thread.join(60)

    on_kafka = world.on_kafka()
    to_celery = [(f"k{int(message.task_id) % 37}", message.task_id) for message in world.celery.messages]
    assert sorted(int(task_id) for _, task_id in on_kafka + to_celery) == list(range(600))
    assert {key for key, _ in on_kafka} == {
        f"k{number}" for number in range(37) if bucket("taskbridge", f"k{number}") < 5_000
    }
    order = defaultdict(list)
    for key, task_id in on_kafka + to_celery:
        order[key].append(int(task_id))
    assert all(numbers == sorted(numbers) for numbers in order.values())
    assert sorted(int(row.id) for row in world.rows) == list(range(600))
    assert {row.ambiguous for row in world.rows} == {0}
    assert sum(relay.totals.kafka for relay in relays) == len(on_kafka)


def test_a_message_is_sent_when_it_is_due_and_not_before(world: World) -> None:
    world.put("delayed", "later", "k", due=3600)
    world.put("delayed", "soon", "k", due=0.5)
    due = time.time() + 0.5
    relay = world.relay()
    thread = threading.Thread(target=relay.run)
    thread.start()
    wait_for(lambda: world.waiting() == 1)
    relay.stop()
    thread.join(60)

    (row,) = world.rows
    assert (row.id, row.route) == ("soon", "kafka")
    assert due - 0.1 <= row.at < due + 5
    assert row.due == pytest.approx(due, abs=0.4)
    assert world.tables.next_due() == pytest.approx(3600, abs=20)


def test_two_claims_never_hold_the_same_key(world: World) -> None:
    for number in range(40):
        world.put("delayed", f"{number}", key=f"k{number}")

    with world.tables.claim("delayed", 10) as first, world.tables.claim("delayed", 40) as second:
        mine = {row.pending.key for row in first.rows}
        theirs = {row.pending.key for row in second.rows}
        assert len(mine) == 10
        assert theirs
        assert not mine & theirs


def test_a_replica_that_dies_between_acknowledgement_and_commit_leaves_a_repeat_that_is_explained(world: World) -> None:
    world.put("delayed", "a", "k")
    world.put("outbox", "b", "k")

    class Dying(DjangoRelayStore):
        """Loses its connection when everything is sent and nothing is committed."""

        @contextmanager
        def claim(self, table: Table, limit: int, after: WaitingRow | None = None) -> Iterator[Claim]:
            with super().claim(table, limit, after) as claim:
                yield _Dying(claim, world.alias)

    dying = world.relay(Dying(world.store.sessions))
    dying.run(once=True)
    assert "the database" in dying.trouble
    assert world.rows == []
    assert (world.waiting("outbox"), world.waiting("delayed")) == (1, 1)

    heir = world.relay()
    heir.run(once=True)
    assert heir.trouble == {}
    assert {row.id: row.ambiguous for row in world.rows} == {"b": 1, "a": 0}
    assert sorted(task_id for _, task_id in world.on_kafka()) == ["a", "b", "b"]
    assert world.waiting("outbox") == world.waiting("delayed") == 0


class _Dying:
    def __init__(self, claim: Claim, alias: str) -> None:
        self.rows, self.flags, self.busy = claim.rows, claim.flags, claim.busy
        self._claim = claim
        self._alias = alias

    def begin(self, ids: Mapping[Side, Collection[int]]) -> None:
        self._claim.begin(ids)

    def finish(self, gone: Collection[int], doubtful: Mapping[Side, Collection[int]]) -> None:
        with connections[self._alias].cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'taskbridge' AND state LIKE 'idle in transaction%%'"
            )
        self._claim.finish(gone, doubtful)


def test_while_kafka_is_away_rows_are_kept_and_afterwards_sent(world: World) -> None:
    away = Settings.from_mapping(
        {"prefix": world.settings.prefix, "services": SERVICES, "publish_timeout": 0.5},
        {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"},
    )
    reachable, world.producer = world.producer, ConfirmedProducer(away)
    for number in range(3):
        world.put("outbox", f"{number}", "k")

    relay = world.relay()
    relay.run(once=True)
    assert set(relay.trouble) == {"Kafka"}
    assert world.waiting("outbox") == 3
    assert world.rows == []

    world.producer = reachable
    world.relay().run(once=True)
    assert [task_id for _, task_id in world.on_kafka()] == ["0", "1", "2"]
    # Of the first it is not known whether it reached Kafka; the others were never tried.
    assert [row.ambiguous for row in world.rows] == [1, 0, 0]


@pytest.fixture
def command(
    world: World, redis_url: str, topic_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[SimpleNamespace]:
    app = Celery("project", broker=redis_url, set_as_current=False)
    app.conf.task_default_queue = topic_prefix
    bridge = SimpleNamespace(
        app=app,
        settings=replace(world.settings, database=world.alias),
        store=world.store,
        stores={world.alias: world.store},
        outbox_aliases=(world.alias,),
        flags=world.flags,
        confirmed=world.producer,
        resender=CeleryResender(app),
        observer=world.observer,
        numbering=Numbering(),
    )
    monkeypatch.setattr("taskbridge.cli.context.load_bridge", lambda _: bridge)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield bridge
    for number, handler in handlers.items():
        signal.signal(number, handler)
    # kombu keeps the pools of a URL for the whole process: one that is only closed stays there for the next app.
    pools.reset()


def test_the_command_sends_what_is_due_and_ends(world: World, command: SimpleNamespace, topic_prefix: str) -> None:
    world.flags.flag = Flag("orders", Stage.OFF)
    properties = json.dumps(
        {"delivery_info": {"exchange": "", "routing_key": topic_prefix}, "correlation_id": "a", "delivery_mode": 2}
    )
    headers = b'{"id": "a", "task": "o.place", "lang": "py", "retries": 0, "eta": null}'
    message = Message("o.place", "a", b"[[], {}, {}]", "application/json", "utf-8", headers, properties.encode())
    world.store.delay(PendingMessage("orders", "k", message, datetime.now(UTC)))
    world.put("outbox", "b", "k")

    result = CliRunner().invoke(relay_command, ["--once"], obj="project", catch_exceptions=False)

    assert result.exit_code == 0
    assert result.output.endswith("sent 1 to Kafka and 1 to Celery\n")
    assert world.on_kafka() == [("k", "b")]
    with command.app.connection_for_read() as connection:
        queue = connection.SimpleQueue(topic_prefix)
        received = queue.get(timeout=80)
        assert (received.headers["id"], received.payload) == ("a", [[], {}, {}])
        received.ack()
        queue.close()


def test_a_command_told_to_run_once_fails_when_a_server_is_away(world: World, command: SimpleNamespace) -> None:
    command.confirmed = ConfirmedProducer(
        Settings.from_mapping(
            {"services": SERVICES, "publish_timeout": 0.5}, {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}
        )
    )
    world.put("outbox", "a", "k")

    with pytest.raises(Unavailable, match="Kafka did not confirm a record"):
        CliRunner().invoke(relay_command, ["--once"], obj="project", catch_exceptions=False)
    assert world.waiting("outbox") == 1


@pytest.mark.usefixtures("command")
def test_the_command_ends_when_told_to(world: World) -> None:
    world.put("delayed", "a", "k")

    def tell() -> None:
        wait_for(lambda: bool(world.rows))
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=tell)
    thread.start()
    result = CliRunner().invoke(relay_command, [], obj="project", catch_exceptions=False)
    thread.join(60)

    assert result.exit_code == 0
    assert "sent 1 to Kafka and 0 to Celery" in result.output


def test_the_command_empties_every_database_or_the_one_that_is_named(world: World, command: SimpleNamespace) -> None:
    other = DjangoStore(world.alias)
    command.stores = {world.alias: world.store, "ledger": other}
    command.outbox_aliases = tuple(command.stores)
    for number in range(20):
        world.put("outbox", f"{number}", f"k{number}")

    result = CliRunner().invoke(relay_command, ["--once"], obj="project", catch_exceptions=False)
    assert result.output.endswith("sent 20 to Kafka and 0 to Celery\n")

    world.put("outbox", "last", "k")
    result = CliRunner().invoke(
        relay_command, ["--once", "--database", "ledger"], obj="project", catch_exceptions=False
    )
    assert result.output.endswith("sent 1 to Kafka and 0 to Celery\n")
    with pytest.raises(ConfigurationError, match=r"in database 'nowhere'; it may be: test_bridge_\w+, ledger"):
        CliRunner().invoke(relay_command, ["--database", "nowhere"], obj="project", catch_exceptions=False)
    other.sessions.close()


def test_one_loop_that_fails_ends_the_others(world: World, command: SimpleNamespace) -> None:
    class Breaking(DjangoRelayStore):
        def claim(self, *_: Any) -> Any:
            raise ZeroDivisionError

    command.stores = {world.alias: world.store, "ledger": world.store}
    command.outbox_aliases = tuple(command.stores)
    made: list[DjangoRelayStore] = []

    def make(*arguments: Any) -> DjangoRelayStore:
        made.append((Breaking if made else DjangoRelayStore)(*arguments))
        return made[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("taskbridge.cli.relay.DjangoRelayStore", make)
        with pytest.raises(ZeroDivisionError):
            CliRunner().invoke(relay_command, [], obj="project", catch_exceptions=False)


def wait_for(condition: Any, within: float = 90.0) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.02)
