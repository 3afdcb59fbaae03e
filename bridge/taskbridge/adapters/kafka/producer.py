"""
Two producers: one that waits for the broker's word, one that never waits.

Both make their client when they are first used, one per process id, so that a fork is safe at any time.
"""

from __future__ import annotations

import atexit
import logging
import time
from collections import Counter, deque
from collections.abc import Sequence
from threading import Event, Lock
from typing import Any, TypeAlias, cast

from confluent_kafka import KafkaError, KafkaException, Producer

from taskbridge.adapters.kafka.clientlog import ClientLog
from taskbridge.adapters.kafka.process import PerProcess
from taskbridge.dispatch import ThrottledLog
from taskbridge.exceptions import PublishAmbiguous, PublishError, PublishRefused
from taskbridge.record import Record
from taskbridge.settings import Settings

_ClientHeaders: TypeAlias = "list[tuple[str, str | bytes | None]]"

logger = logging.getLogger("taskbridge.kafka")

PARTITIONER = "murmur2_random"
"""Java's partitioner, so that every client of every language finds a key in the same partition."""

_HEADROOM = 16_384
"""Bytes that librdkafka adds to a record; our own limit is checked first, since it can be named."""

_REPORT_MARGIN = 2.0
"""Seconds that a delivery report may come after its time limit: librdkafka looks for overdue messages once a second."""

_NEVER_STORED = frozenset(
    {
        # There is no such topic or partition to send to.
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError._UNKNOWN_TOPIC,
        KafkaError._UNKNOWN_PARTITION,
        # The broker judged the record itself, and would have judged any earlier attempt alike.
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.INVALID_RECORD,
    }
)


class _Delivery:
    """The wait for one delivery report."""

    __slots__ = ("done", "error", "event", "heir")

    def __init__(self) -> None:
        self.event = Event()
        self.done = False
        self.heir = False
        self.error: KafkaError | None = None

    def __call__(self, error: KafkaError | None, _: object) -> None:
        self.error = error
        self.done = True
        self.event.set()


class _Client:
    """
    A producer that any number of threads wait on.

    One of them polls for all; when it has its own report, it makes another its heir. So a report reaches its thread at
    once, and there is no thread that a fork could lose.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        self.producer = _make(config)
        self._mutex = Lock()
        self._polled = False
        self._waiting: deque[_Delivery] = deque()

    def wait(self, delivery: _Delivery, deadline: float) -> None:
        """Return when the delivery is done or the monotonic clock reaches `deadline`."""
        try:
            while not delivery.done and (remaining := deadline - time.monotonic()) > 0:
                if self._takes_over(delivery):
                    self.producer.poll(remaining)
                else:
                    delivery.event.wait(remaining)
        finally:
            self._leave(delivery)

    def _takes_over(self, delivery: _Delivery) -> bool:
        """Return whether the caller polls; if not, it waits in the queue for its report or its turn to poll."""
        with self._mutex:
            if delivery.heir:
                return True
            if not self._polled:
                self._polled = delivery.heir = True
                if delivery in self._waiting:
                    self._waiting.remove(delivery)
                return True
            if delivery not in self._waiting:
                self._waiting.append(delivery)
            return False

    def _leave(self, delivery: _Delivery) -> None:
        with self._mutex:
            if delivery in self._waiting:
                self._waiting.remove(delivery)
            if not delivery.heir:
                return
            delivery.heir = self._polled = False
            while self._waiting:
                heir = self._waiting.popleft()
                if not heir.done:
                    heir.heir = self._polled = True
                    heir.event.set()
                    return


class ConfirmedProducer:
    """
    A ConfirmedPublisher: idempotent, acknowledged by all in-sync replicas.

    May be used from any thread and across forks.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._timeout = settings.publish_timeout
        self._limit = settings.max_message_bytes
        self._clients = PerProcess(self._connect)
        atexit.register(self.close)

    def _connect(self) -> _Client:
        return _Client(
            {
                **_common(self._settings),
                "enable.idempotence": True,
                "acks": "all",
                "linger.ms": 0,
                "delivery.timeout.ms": max(1, round(self._timeout * 1000)),
                "message.max.bytes": self._limit + _HEADROOM,
                # A topic that the brokers do not have is refused while the caller still waits.
                "topic.metadata.propagation.max.ms": max(1, round(self._timeout * 500)),
            }
        )

    def publish(self, topic: str, record: Record) -> None:
        """
        Return once the broker has acknowledged the record.

        Raises PublishRefused when the broker certainly does not have it, PublishAmbiguous when it may.
        """
        error = self.publish_many([(topic, record)])[0]
        if error is not None:
            raise error

    def publish_many(self, records: Sequence[tuple[str, Record]]) -> list[PublishError | None]:
        """Publish in this order, wait for all, and return for each record None or what `publish` would have raised."""
        deadline = time.monotonic() + self._timeout + _REPORT_MARGIN
        try:
            client = self._clients.get()
        except (KafkaException, ValueError) as error:
            refused = PublishRefused(f"the Kafka client cannot be made: {_reason(error)}; check the KAFKA_* variables")
            return [refused] * len(records)
        begun = [self._begin(client, topic, record) for topic, record in records]
        return [
            outcome if isinstance(outcome, PublishError) else self._end(client, topic, outcome, deadline)
            for (topic, _), outcome in zip(records, begun, strict=True)
        ]

    def _begin(self, client: _Client, topic: str, record: Record) -> _Delivery | PublishRefused:
        size = _size(record)
        if size > self._limit:
            return PublishRefused(
                f'a record of {size} bytes for topic {topic} exceeds TASKBRIDGE["max_message_bytes"], {self._limit}'
            )
        delivery, headers = _Delivery(), _headers(record)
        try:
            try:
                client.producer.produce(topic, record.value, record.key, on_delivery=delivery, headers=headers)
            except BufferError:
                client.producer.poll(0)
                client.producer.produce(topic, record.value, record.key, on_delivery=delivery, headers=headers)
        except BufferError:
            return PublishRefused(f"the Kafka client's queue is full, so topic {topic} takes no record now")
        except KafkaException as error:
            self._retire_if_fatal(client, error.args[0])
            return PublishRefused(f"the Kafka client did not take a record for topic {topic}: {_reason(error)}")
        return delivery

    def _end(self, client: _Client, topic: str, delivery: _Delivery, deadline: float) -> PublishError | None:
        client.wait(delivery, deadline)
        if not delivery.done:
            return PublishAmbiguous(f"Kafka did not confirm a record for topic {topic} within {self._timeout:g} s")
        error = delivery.error
        if error is None:
            return None
        self._retire_if_fatal(client, error)
        if error.code() in _NEVER_STORED:
            return PublishRefused(f"Kafka does not take a record for topic {topic}: {error.str()}")
        return PublishAmbiguous(f"Kafka did not confirm a record for topic {topic}: {error.str()}")

    def _retire_if_fatal(self, client: _Client, error: Any) -> None:
        if isinstance(error, KafkaError) and (error.fatal() or error.code() == KafkaError._FATAL):
            logger.warning("the Kafka producer failed for good and is replaced: %s", error.str())
            self._clients.discard(client)

    def flush(self, timeout: float = 5.0) -> int:
        """Wait for what is under way in this process, at most `timeout` seconds; return how many records remain."""
        client = self._clients.peek()
        return 0 if client is None else client.producer.flush(timeout)

    def close(self) -> None:
        """Flush, and give the client up; another publish would make a new one."""
        self.flush()
        self._clients.take()


class BestEffortProducer:
    """
    A BestEffortPublisher: at most `copy_buffer` records and 32 MB wait, each for ten seconds at most.

    May be used from any thread and across forks. `lost` counts, by topic, what was offered and did not arrive.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._limit = settings.max_message_bytes
        self.lost: Counter[str] = Counter()
        self._log = ThrottledLog(logger)
        self._producers = PerProcess(self._connect)
        self._offered = 0
        atexit.register(self.close)

    def _connect(self) -> Producer:
        return _make(
            {
                **_common(self._settings),
                "acks": "all",
                "linger.ms": _COPY_LINGER_MS,
                "compression.type": "lz4",
                "delivery.timeout.ms": _COPY_TIMEOUT_MS,
                "topic.metadata.propagation.max.ms": _COPY_TIMEOUT_MS // 10,
                "message.max.bytes": self._limit + _HEADROOM,
                "queue.buffering.max.messages": self._settings.copy_buffer,
                "queue.buffering.max.kbytes": _COPY_BUFFER_KBYTES,
                "delivery.report.only.error": True,
                "on_delivery": self._not_delivered,
            }
        )

    def offer(self, topic: str, record: Record) -> bool:
        """Take the record for sending, or return False when it is lost already; never blocks, never raises."""
        try:
            producer = self._producers.get()
            # Reports of failures wait for a poll, and their records in the queue until then.
            self._offered += 1
            if self._offered % _POLL_EVERY == 0:
                producer.poll(0)
            headers = _headers(record)
            try:
                producer.produce(topic, record.value, record.key, headers=headers)
            except BufferError:
                producer.poll(0)
                producer.produce(topic, record.value, record.key, headers=headers)
        except (BufferError, KafkaException, ValueError, TypeError) as error:
            self._lose(topic, _reason(error))
            return False
        return True

    def _not_delivered(self, error: KafkaError | None, message: Any) -> None:
        if error is not None:
            self._lose(message.topic(), error.str())

    def _lose(self, topic: str, reason: str) -> None:
        self.lost[topic] += 1
        self._log.warning(f"{topic}: {reason}", "copies or observations for topic %s are being lost: %s", topic, reason)

    def flush(self, timeout: float) -> int:
        """Wait for what is under way in this process, at most `timeout` seconds; return how many records remain."""
        producer = self._producers.peek()
        return 0 if producer is None else producer.flush(timeout)

    def close(self) -> None:
        """Give what is under way a last moment, say how much of it is lost, and give the client up."""
        remaining = self.flush(_EXIT_TIMEOUT)
        self._producers.take()
        if remaining:
            logger.warning("%d copies and observations are lost: Kafka did not take them before the end", remaining)


_EXIT_TIMEOUT = 2.0
"""Seconds: a command must not hang at its end because Kafka is away."""

_COPY_LINGER_MS = 50
_COPY_TIMEOUT_MS = 10_000
_COPY_BUFFER_KBYTES = 32 * 1024
_POLL_EVERY = 64


def _make(config: dict[str, Any]) -> Producer:
    log = ClientLog(logger)
    # The client asks of its logger no more than the method `log`.
    return Producer({**config, "error_cb": log.error}, logger=cast(logging.Logger, log))


def _common(settings: Settings) -> dict[str, Any]:
    return {
        **settings.kafka.client_config(),
        "client.id": f"taskbridge-{settings.prefix}",
        "partitioner": PARTITIONER,
        "allow.auto.create.topics": False,
        "socket.keepalive.enable": True,
        "log.connection.close": False,
    }


def _headers(record: Record) -> _ClientHeaders:
    # The same list: lists are invariant, and the client's type also allows text and null.
    return cast(_ClientHeaders, record.headers)


def _size(record: Record) -> int:
    return len(record.key) + len(record.value) + sum(len(name) + len(value) for name, value in record.headers)


def _reason(error: BaseException) -> str:
    """Return what librdkafka says, without the configuration's values."""
    cause = error.args[0] if error.args else error
    return cause.str() if isinstance(cause, KafkaError) else str(cause)
