"""Dispatch on a real Redis, Kafka and PostgreSQL, and what Celery's own workers say of it."""

from __future__ import annotations

import json
import os
import socket
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from celery import Celery
from confluent_kafka import Consumer, TopicPartition
from django.db import connections
from redis import Redis

from taskbridge.adapters.celery.digest import arguments_digest
from taskbridge.adapters.celery.hook import install_hook
from taskbridge.adapters.celery.resend import CeleryResender
from taskbridge.adapters.kafka.admin import KafkaAdmin
from taskbridge.adapters.kafka.observations import KafkaObservationLog
from taskbridge.adapters.kafka.observer import KafkaObserver
from taskbridge.adapters.kafka.producer import BestEffortProducer, ConfirmedProducer
from taskbridge.contrib.django.store import DjangoStore
from taskbridge.cutover import FlagCache, Stage
from taskbridge.dispatch import Dispatcher
from taskbridge.observation import DispatchRow, RunRow
from taskbridge.record import Message, decode
from taskbridge.settings import Settings
from tests.project.harness import Project, project, wait_for

pytestmark = pytest.mark.services


class Road:
    """One app on real servers, its dispatcher, and looks into what the servers got."""

    def __init__(self, settings: Settings, redis_url: str, alias: str) -> None:
        self.settings, self.alias = settings, alias
        self.queue = settings.prefix
        self.app = Celery(settings.prefix, broker=redis_url, set_as_current=False)
        self.app.conf.update(task_default_queue=self.queue, task_publish_retry=False)
        self.app.now = lambda: datetime(2030, 1, 2, tzinfo=UTC)
        self.redis: Any = Redis.from_url(redis_url)
        self.store = DjangoStore(alias)
        self.version = 0
        self.parts: list[Any] = []

    def bridge(self) -> Dispatcher:
        self.confirmed, self.best_effort = ConfirmedProducer(self.settings), BestEffortProducer(self.settings)
        self.observer = KafkaObserver(self.best_effort, self.settings)
        self.parts = [self.confirmed, self.best_effort]
        flags = FlagCache(self.store, {"orders": Stage.OFF}, time.monotonic, max_age=0.0)
        dispatcher = Dispatcher(self.settings, flags, self.confirmed, self.best_effort, self.store, self.observer)
        install_hook(self.app, lambda _: dispatcher)
        return dispatcher

    def close(self) -> None:
        if self.parts:
            self.observer.flush()
        for part in self.parts:
            part.close()
        self.broker()
        self.app.close()
        self.redis.close()
        self.store.sessions.close()

    def move(self, stage: Stage, basis_points: int = 0) -> None:
        self.version += 1
        with connections[self.alias].cursor() as cursor:
            cursor.execute("DELETE FROM taskbridge_service_flag")
            cursor.execute(
                "INSERT INTO taskbridge_service_flag (service, stage, basis_points, epoch, version, changed_at)"
                " VALUES ('orders', %s, %s, %s, %s, now())",
                (stage.value, basis_points, self.version, self.version),
            )

    def send(self, **options: Any) -> str:
        return str(self.app.send_task("orders.place", ("o-1",), {"amount": 3}, **options).id)

    def broker(self) -> list[bytes]:
        raw = self.redis.lrange(self.queue, 0, -1)
        self.redis.delete(self.queue)
        return list(reversed(raw))

    def topic(self, topic: str) -> list[Any]:
        consumer = Consumer({**self.settings.kafka.client_config(), "group.id": "look", "enable.auto.commit": False})
        try:
            partitions = consumer.list_topics(topic, timeout=60).topics[topic].partitions
            ends = {number: consumer.get_watermark_offsets(TopicPartition(topic, number))[1] for number in partitions}
            consumer.assign([TopicPartition(topic, number, 0) for number in ends])
            found: list[Any] = []
            wait_for(
                lambda: found.extend(consumer.consume(1000, timeout=0.5)) or len(found) >= sum(ends.values()),
                f"reading of {topic}",
                interval=0.0,
            )
            return found
        finally:
            consumer.close()

    def rows(self, table: str) -> list[dict[str, Any]]:
        with connections[self.alias].cursor() as cursor:
            cursor.execute(f"SELECT * FROM taskbridge_{table} ORDER BY id")  # noqa: S608
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def observed(self) -> list[DispatchRow]:
        self.observer.flush()
        assert self.best_effort.flush(10) == 0
        batches = KafkaObservationLog(self.settings).read("orders")
        return [row for batch in batches for row in batch.rows if isinstance(row, DispatchRow)]


@pytest.fixture
def road(kafka_bootstrap: str, redis_url: str, alias: str, topic_prefix: str) -> Iterator[Road]:
    settings = Settings.from_mapping(
        {"prefix": topic_prefix, "services": {"orders": {"tasks": ["orders.*"], "partitions": 3}}},
        {"KAFKA_BOOTSTRAP_SERVERS": kafka_bootstrap},
    )
    KafkaAdmin(settings).ensure_topics(["orders"])
    road = Road(settings, redis_url, alias)
    yield road
    road.close()


def comparable(raw: bytes) -> bytes:
    """Return a payload of Redis without the random tag that kombu gives each delivery."""
    tag = json.loads(raw)["properties"]["delivery_tag"]
    return raw.replace(tag.encode(), b"tag")


PINNED = {"task_id": "id-1", "reply_to": "reply", "origin": "gen1@here"}


@pytest.mark.parametrize(
    "options",
    [{}, {"compression": "zlib"}, {"headers": {"a": [1]}}, {"priority": 3}, {"expires": 9.5}, {"serializer": "pickle"}],
)
def test_redis_holds_byte_for_byte_what_plain_celery_sends(road: Road, options: dict[str, Any]) -> None:
    if "priority" in options:
        # Redis keeps priorities in lists of their own.
        road.queue += "\x06\x163"
    road.send(**PINNED, **options)
    [plain] = road.broker()
    road.bridge()
    sent = []
    for stage, basis_points in ((Stage.OFF, 0), (Stage.MIRROR, 0), (Stage.LIVE, 0)):
        road.move(stage, basis_points)
        road.send(**PINNED, **options)
        sent.extend(road.broker())
    assert [comparable(raw) for raw in sent] == [comparable(plain)] * 3


def test_mirror_copies_to_the_shadow_topic_and_live_publishes_to_the_real_one(road: Road) -> None:
    road.bridge()
    road.move(Stage.MIRROR)
    mirrored = road.send()
    road.move(Stage.LIVE, 10_000)
    published = road.send()
    assert road.best_effort.flush(10) == 0
    [copy], [record] = road.topic(road.settings.shadow_topic("orders")), road.topic(road.settings.topic("orders"))
    copied, _ = decode(copy.value(), copy.headers())
    found, rest = decode(record.value(), record.headers())
    assert (copied.task_id, found.task_id) == (mirrored, published)
    assert (record.key().decode(), rest["bridge-route"], rest["bridge-epoch"]) == (published, "kafka", "2")
    [raw] = road.broker()
    sent = json.loads(raw)
    assert (sent["headers"]["id"], sent["headers"]) == (mirrored, copied.decoded_headers())
    assert {(row.id, row.route, row.copy, row.stage) for row in road.observed()} == {
        (mirrored, "celery", "sent", "mirror"),
        (published, "kafka", "none", "live"),
    }


def test_a_countdown_is_a_row_until_it_is_due(road: Road) -> None:
    road.bridge()
    road.move(Stage.LIVE, 10_000)
    delayed = road.send(countdown=3600)
    [row] = road.rows("delayed")
    assert (row["task_id"], row["seq"], row["epoch"]) == (delayed, 1, 1)
    due = datetime(2030, 1, 2, 1, tzinfo=UTC).timestamp()
    assert row["due"].timestamp() == pytest.approx(due, abs=5)
    assert (road.broker(), road.topic(road.settings.topic("orders"))) == ([], [])
    assert [(found.route, found.due) for found in road.observed()] == [("delayed", due)]


def test_what_kafka_may_have_is_in_the_outbox_and_the_next_goes_to_celery_at_once(
    road: Road, silent: socket.socket
) -> None:
    kafka = replace(road.settings.kafka, bootstrap_servers=f"127.0.0.1:{silent.getsockname()[1]}")
    road.settings = replace(road.settings, kafka=kafka, publish_timeout=0.5)
    dispatcher = road.bridge()
    road.move(Stage.LIVE, 10_000)
    ambiguous = road.send()
    fallen_back = road.send()
    assert [row["task_id"] for row in road.rows("outbox")] == [ambiguous]
    assert [json.loads(raw)["headers"]["id"] for raw in road.broker()] == [fallen_back]
    assert dispatcher.counters.snapshot()["orders"] == {"ambiguous": 1, "breaker": 1, "celery": 1, "kafka": 1}


def test_mirror_does_without_kafka(road: Road) -> None:
    road.settings = replace(road.settings, kafka=replace(road.settings.kafka, bootstrap_servers="127.0.0.1:1"))
    road.bridge()
    road.move(Stage.MIRROR)
    road.send()
    began = time.monotonic()
    ids = [road.send() for _ in range(100)]
    assert time.monotonic() - began < 60
    assert [json.loads(raw)["headers"]["id"] for raw in road.broker()][1:] == ids


def test_sent_again_a_message_is_in_redis_as_it_would_have_been(road: Road) -> None:
    road.bridge()
    road.move(Stage.LIVE, 0)
    road.send(**PINNED, expires=9.5, headers={"a": 1})
    [sent] = road.broker()
    road.move(Stage.LIVE, 10_000)
    road.send(**PINNED, expires=9.5, headers={"a": 1})
    [record] = road.topic(road.settings.topic("orders"))
    message, _ = decode(record.value(), record.headers())
    CeleryResender(road.app).publish(message)
    [resent] = road.broker()
    assert json.loads(comparable(resent)) == json.loads(comparable(sent))
    broken = Message("t", "id", b"", "application/json", "utf-8", b"[]", b"{}")
    with pytest.raises(Exception, match="message id of t cannot be sent again"):
        CeleryResender(road.app).publish(broken)


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """A server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


# Celery's own workers


@pytest.fixture
def mirrored(tmp_path: Path, fresh_database_url: str, redis_url: str, kafka_bootstrap: str) -> Iterator[Project]:
    servers = {"DATABASE_URL": fresh_database_url, "REDIS_URL": redis_url, "KAFKA_BOOTSTRAP_SERVERS": kafka_bootstrap}
    with project(tmp_path, f"test-{uuid4().hex[:8]}", servers) as one:
        yield one


def test_prefork_workers_tell_each_run_once_from_the_first_transition_on(mirrored: Project) -> None:
    worker = mirrored.celery_worker()
    # Both children know the service as `off` when it leaves it.
    mirrored.script("print(json.dumps([tasks.add.delay(1, n).get(timeout=80) for n in range(4)]))")
    mirrored.cli("cutover", "work", "mirror")
    ids = mirrored.script(
        "sent = [tasks.add.delay(n, n).id for n in range(40)]\n"
        "sent += [tasks.fails.delay().id, tasks.flaky.delay(2).id, tasks.ignores_the_time.delay().id]\n"
        "print(json.dumps([*sent, tasks.add.apply_async((1, 1), expires=-1).id]))"
    )
    settings = Settings.from_mapping(
        {"prefix": mirrored.prefix, "services": {"work": {"tasks": ["bridged.tasks.*"], "partitions": 4}}},
        {"KAFKA_BOOTSTRAP_SERVERS": mirrored.environment["KAFKA_BOOTSTRAP_SERVERS"], **os.environ},
    )

    def rows() -> tuple[list[DispatchRow], list[RunRow]]:
        found = [row for batch in KafkaObservationLog(settings).read("work") for row in batch.rows]
        return [row for row in found if isinstance(row, DispatchRow)], [row for row in found if isinstance(row, RunRow)]

    def complete() -> bool:
        dispatched, ran = rows()
        return len(dispatched) >= len(ids) + 2 and {row.id for row in ran} >= set(ids)

    wait_for(complete, "a run of every dispatch", interval=0.5)
    # Last, because a process that is killed takes with it what it has gathered for a moment.
    ids += mirrored.script("print(json.dumps([tasks.kills_its_process.delay().id]))")
    wait_for(complete, "the end of a killed process", interval=0.5)
    assert worker.terminate() == 0, worker.output()
    dispatched, ran = rows()
    # A retry is a dispatch of its own.
    assert Counter(row.id for row in dispatched) == Counter([*ids, ids[41], ids[41]])
    mine = [row for row in ran if row.id in set(ids)]
    assert Counter((row.id, row.retries) for row in mine) == Counter((row.id, row.retries) for row in dispatched)
    outcomes = {(row.id, row.retries): (row.outcome, row.detail) for row in mine}
    assert {outcomes[task_id, 0] for task_id in ids[:40]} == {("success", "")}
    assert outcomes[ids[40], 0] == ("failure", "ValueError")
    assert [outcomes[ids[41], retries] for retries in range(3)] == [
        ("retry", "ValueError"),
        ("retry", "ValueError"),
        ("success", ""),
    ]
    assert outcomes[ids[42], 0] == ("failure", "TimeLimitExceeded")
    assert outcomes[ids[43], 0][0] == "expired"
    assert outcomes[ids[44], 0] == ("failure", "WorkerLostError")
    digests = {row.id: row.args for row in mine if row.args}
    assert all(
        digests[task_id] == arguments_digest((n, n), {}) for n, task_id in enumerate(ids[:40]) if task_id in digests
    )
    assert len(digests) > 10
    assert {row.side for row in mine} == {"celery"}
