"""Kafka that misbehaves in each way: what a publish comes to, where its message is then, and that none is lost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from devstack.service import Service
from devstack.stack import Stack
from taskbridge.adapters.kafka.producer import ConfirmedProducer
from taskbridge.cutover import FlagCache, Stage
from taskbridge.dispatch import Dispatcher, Outgoing
from taskbridge.dispatch.barrier import barrier
from taskbridge.exceptions import PublishRefused
from taskbridge.record import Message, Record, decode
from taskbridge.settings import KafkaSettings, ServiceSettings, Settings
from taskbridge.testing import FakeFlags, FakePending, FakePublisher, FakeResender, RecordingObserver
from tests.integration.faults.proxy import PRODUCE, Cut, Proxy, with_error
from tests.integration.faults.scene import patiently
from tests.project.harness import wait_for

pytestmark = pytest.mark.services

NOT_ENOUGH_REPLICAS, TOPIC_AUTHORIZATION_FAILED = 19, 29
OUT_OF_ORDER_SEQUENCE, INVALID_PRODUCER_EPOCH = 45, 47


class Road:
    """A dispatcher whose Kafka is real; what goes elsewhere ends in lists."""

    def __init__(self, bootstrap: str, publish: Any = "confirm", stage: Stage = Stage.LIVE) -> None:
        self.prefix = f"b{uuid4().hex[:10]}"
        service = ServiceSettings("orders", tasks=("orders.*",), publish=publish)
        self.settings = Settings(
            KafkaSettings(bootstrap), {"orders": service}, prefix=self.prefix, publish_timeout=1.5, breaker_seconds=60.0
        )
        self.service = service
        flags = FakeFlags()
        flags.set("orders", stage, 10_000 if stage is Stage.LIVE else 0)
        self.kafka, self.pending, self.resender = ConfirmedProducer(self.settings), FakePending(), FakeResender()
        self.direct: list[str] = []
        self.dispatcher = Dispatcher(
            self.settings,
            FlagCache(flags, {"orders": Stage.OFF}, time.monotonic),
            self.kafka,
            FakePublisher(),
            self.pending,
            RecordingObserver(),
            resender=self.resender,
            callers=self.pending,
        )

    def topic(self, bootstrap: str, **config: str) -> None:
        new = NewTopic(self.settings.topic("orders"), num_partitions=1, replication_factor=1, config=config)

        def make() -> None:
            admin = AdminClient({"bootstrap.servers": bootstrap, "socket.timeout.ms": 5000})
            [made] = admin.create_topics([new], request_timeout=5.0).values()
            try:
                made.result(60)
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise

        patiently(make)
        # A broker that has just come up may take seconds to admit its first producer.
        settings = replace(self.settings, kafka=KafkaSettings(bootstrap), publish_timeout=30.0)
        ready = ConfirmedProducer(settings)
        ready.publish(self.settings.topic("orders"), Record(b"", b"the first record", []))
        ready.close()

    def send(self, task_id: str, size: int = 100) -> None:
        message = Message("orders.place", task_id, b"x" * size, "application/json", "utf-8", b"{}", b"{}")
        outgoing = Outgoing(
            self.service, "orders.place", task_id, 0, 0, task_id, message.body,
            lambda: self.direct.append(task_id), lambda: message, lambda: "", publish=self.service.publish,
        )  # fmt: skip
        with barrier():
            self.dispatcher.dispatch(self.dispatcher.flag("orders"), outgoing)

    @property
    def celery(self) -> list[str]:
        return [*self.direct, *(message.task_id for message in self.resender.messages)]

    @property
    def outbox(self) -> list[tuple[str, int]]:
        return [(row.message.task_id, row.attempts) for row in self.pending.outboxed]

    @property
    def counts(self) -> dict[str, int]:
        counts = dict(self.dispatcher.counters.snapshot()["orders"])
        counts.pop("barrier", None)
        return counts

    def stored(self, bootstrap: str) -> list[str]:
        """Return the ids of the tasks in the topic."""
        return patiently(lambda: self._stored(bootstrap))

    def _stored(self, bootstrap: str) -> list[str]:
        consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "look", "enable.auto.commit": False})
        try:
            place = TopicPartition(self.settings.topic("orders"), 0, 1)
            end = consumer.get_watermark_offsets(place, timeout=60)[1]
            consumer.assign([place])
            found: list[Any] = []
            while len(found) < end - 1:
                found += consumer.consume(end - 1 - len(found), timeout=60)
            return [decode(record.value(), record.headers())[0].task_id for record in found]
        finally:
            consumer.close()


def pause(kafka: Service) -> None:
    """Stop the broker where it stands; on a busy machine its threads go on for a moment after the signal."""
    kafka.pause()

    def all_stopped() -> bool:
        threads = Path(f"/proc/{kafka.pid}/task").glob("*/stat")
        return all(thread.read_text().rpartition(")")[2].split()[0] == "T" for thread in threads)

    wait_for(all_stopped, "the stop of every thread", interval=0.01)


AMBIGUOUS = {"ambiguous": 1, "kafka": 1}
REFUSED = {"refused": 1, "celery": 1}

modes = pytest.mark.parametrize("publish", ["confirm", "barrier"])


@pytest.fixture
def bootstrap(own: Stack) -> str:
    return own["kafka"].url


@pytest.fixture
def proxy(bootstrap: str) -> Iterator[Proxy]:
    one = Proxy(bootstrap)
    yield one
    one.close()


@modes
def test_nothing_listens(publish: str) -> None:
    road = Road("127.0.0.1:1", publish)
    road.send("id-1")
    assert (road.outbox, road.celery, road.counts) == ([("id-1", 1)], [], AMBIGUOUS)
    road.send("id-2")
    assert (road.celery, road.counts) == (["id-2"], AMBIGUOUS | {"breaker": 1, "celery": 1})


@modes
def test_the_broker_is_stopped_where_it_stands(own: Stack, bootstrap: str, publish: str) -> None:
    road = Road(bootstrap, publish)
    road.topic(bootstrap)
    road.send("id-0")
    pause(own["kafka"])
    road.send("id-1")
    own["kafka"].resume()
    assert (road.outbox, road.celery) == ([("id-1", 1)], [])
    assert road.counts == {"ambiguous": 1, "kafka": 2}
    # What was on its way may have arrived, but never twice.
    assert road.stored(bootstrap) in (["id-0"], ["id-0", "id-1"])


@modes
def test_the_broker_is_killed_after_it_took_the_record(own: Stack, bootstrap: str, publish: str, proxy: Proxy) -> None:
    road = Road(proxy.url, publish)
    road.topic(bootstrap)
    road.send("id-0")

    def answer(key: int, version: int, payload: bytes) -> bytes | None:
        if key == PRODUCE:
            own["kafka"].kill()
            return None
        return payload

    proxy.answer = answer
    road.send("id-1")
    assert (road.outbox, road.celery) == ([("id-1", 1)], [])
    own["kafka"].start()
    assert road.stored(bootstrap) == ["id-0", "id-1"]


@modes
def test_the_acknowledgement_is_swallowed(bootstrap: str, publish: str, proxy: Proxy) -> None:
    road = Road(proxy.url, publish)
    road.topic(bootstrap)
    proxy.answer = lambda key, _version, payload: None if key == PRODUCE else payload
    road.send("id-1")
    assert (road.outbox, road.celery, road.counts) == ([("id-1", 1)], [], AMBIGUOUS)
    assert road.stored(bootstrap) == ["id-1"]


@modes
def test_the_connection_breaks_within_the_acknowledgement(bootstrap: str, publish: str, proxy: Proxy) -> None:
    road = Road(proxy.url, publish)
    road.topic(bootstrap)
    cuts: list[int] = []

    def answer(key: int, version: int, payload: bytes) -> bytes | None:
        if key == PRODUCE and not cuts:
            cuts.append(version)
            raise Cut
        return payload

    proxy.answer = answer
    road.send("id-1")
    # The client repeats it by itself, and the broker knows it again.
    assert (len(cuts), road.outbox, road.celery, road.counts) == (1, [], [], {"kafka": 1})
    assert road.stored(bootstrap) == ["id-1"]


@modes
def test_the_topic_is_not_there(bootstrap: str, publish: str) -> None:
    road = Road(bootstrap, publish)
    road.send("id-1")
    assert (road.celery, road.outbox, road.counts) == (["id-1"], [], REFUSED)


@modes
def test_the_topic_takes_less_than_the_settings_say(bootstrap: str, publish: str) -> None:
    road = Road(bootstrap, publish)
    road.topic(bootstrap, **{"max.message.bytes": "2000"})
    road.send("id-1", size=5_000)
    assert (road.celery, road.outbox, road.counts) == (["id-1"], [], REFUSED)
    road.send("id-2")
    assert road.stored(bootstrap) == ["id-2"]


@modes
def test_when_complete_what_is_refused_waits_in_the_outbox(bootstrap: str, publish: str) -> None:
    road = Road(bootstrap, publish, Stage.COMPLETE)
    road.send("id-1")
    assert (road.outbox, road.celery, road.counts) == ([("id-1", 0)], [], {"refused": 1, "outbox": 1})


@modes
@pytest.mark.parametrize("code", [NOT_ENOUGH_REPLICAS, TOPIC_AUTHORIZATION_FAILED])
def test_the_broker_declines_for_now(bootstrap: str, publish: str, proxy: Proxy, code: int) -> None:
    road = Road(proxy.url, publish)
    road.topic(bootstrap)
    topic = road.settings.topic("orders")
    proxy.answer = lambda key, version, payload: (
        with_error(version, payload, topic, code) if key == PRODUCE else payload
    )
    road.send("id-1")
    # An attempt before the one that was declined may have been stored, as it was here.
    assert (road.outbox, road.celery, road.counts) == ([("id-1", 1)], [], AMBIGUOUS)
    assert road.stored(bootstrap) == ["id-1"]


def test_the_clients_queue_is_full(own: Stack, bootstrap: str) -> None:
    road = Road(bootstrap, "barrier")
    road.topic(bootstrap)
    road.send("id-0")
    pause(own["kafka"])
    filling = Record(b"k", b"", [])
    refused = ""
    while not refused:
        try:
            road.kafka.begin(road.settings.topic("orders"), filling)
        except PublishRefused as error:
            refused = str(error)
    assert "queue is full" in refused
    road.send("id-1")
    assert (road.celery, road.outbox, road.counts) == (["id-1"], [], {"kafka": 1} | REFUSED)


@modes
# After the first the client is of no use any more; after the second it begins a new epoch by itself.
@pytest.mark.parametrize(("code", "replaced"), [(OUT_OF_ORDER_SEQUENCE, True), (INVALID_PRODUCER_EPOCH, False)])
def test_the_broker_no_longer_accepts_this_producer(
    bootstrap: str, publish: str, proxy: Proxy, code: int, replaced: bool, caplog: pytest.LogCaptureFixture
) -> None:
    road = Road(proxy.url, publish)
    road.topic(bootstrap)
    road.send("id-0")
    topic, changed = road.settings.topic("orders"), []

    def answer(key: int, version: int, payload: bytes) -> bytes | None:
        if key == PRODUCE and not changed:
            changed.append(version)
            return with_error(version, payload, topic, code)
        return payload

    proxy.answer = answer
    road.send("id-1")
    assert (road.outbox, road.celery, road.counts) == ([("id-1", 1)], [], {"ambiguous": 1, "kafka": 2})
    road.dispatcher._breaker.succeeded()
    road.send("id-2")
    assert road.stored(bootstrap) == ["id-0", "id-1", "id-2"]
    assert road.counts["kafka"] == 3
    assert ("failed for good and is replaced" in caplog.text) is replaced
