"""
Two producers: one that waits for the broker's word, one that never waits.

Both make their client when they are first used, one per process id, so that a fork is safe at any time.
"""

from __future__ import annotations

import atexit
import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from threading import Event, Lock
from typing import Any, TypeAlias, cast

from confluent_kafka import KafkaError, KafkaException, Producer

from taskbridge.adapters.kafka.clientlog import ClientLog
from taskbridge.adapters.kafka.credentials import Credentials
from taskbridge.adapters.kafka.process import PerProcess
from taskbridge.dispatch import ThrottledLog
from taskbridge.exceptions import ConfigurationError, PublishAmbiguous, PublishError, PublishRefused
from taskbridge.record import Record, size
from taskbridge.settings import Settings

_ClientHeaders: TypeAlias = "list[tuple[str, str | bytes | None]]"

logger = logging.getLogger("taskbridge.kafka")

PARTITIONER = "murmur2_random"
"""Java's partitioner, so that every client of every language finds a key in the same partition."""

_HEADROOM = 16_384
"""Bytes that librdkafka adds to a record; our own limit is checked first, since it can be named."""

_REPORT_MARGIN = 2.0
"""Seconds that a delivery report may come after its time limit: librdkafka looks for overdue messages once a second."""

_LINGER_MS = 5
"""Milliseconds that a record nobody waits for may wait for others: the client's own work is per batch."""

_FIRST_LOOK, _LATER_LOOKS = 0.002, 0.1
"""Seconds between looks whether one's own records are among those that were acknowledged."""

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
    """One record under way: its client, and the report on it when that has come."""

    __slots__ = ("client", "done", "error", "event", "heir", "topic")

    def __init__(self, client: _Client, topic: str) -> None:
        self.client = client
        self.topic = topic
        self.done = False
        self.heir = False
        self.error: KafkaError | None = None
        # Made by whoever cannot poll himself: an event costs more than the rest of this.
        self.event: Event | None = None

    def __call__(self, error: KafkaError | None, _: object) -> None:
        self.error = error
        self.done = True
        if self.event is not None:
            self.event.set()

    def await_event(self, timeout: float) -> None:
        """Return when it is done or it is the caller's turn to poll, at most after `timeout` seconds."""
        event = self.event
        # In this order, so that a report that comes in between is not missed.
        if event is not None and not self.done:
            event.wait(timeout)


class _Client:
    """
    A producer that any number of threads wait on.

    One of them polls for all; when it has its own report, it makes another its heir. So a report reaches its thread at
    once, and there is no thread that a fork could lose.
    """

    def __init__(self, credentials: Credentials, config: dict[str, Any]) -> None:
        self.credentials = credentials
        self.producer = _make({**credentials.begin(), **config})
        self.failure: KafkaError | None = None
        self._mutex = Lock()
        self._polled = False
        self._waiting: deque[_Delivery] = deque()

    def wait(self, delivery: _Delivery, deadline: float) -> None:
        """Return when the delivery is done or the monotonic clock reaches `deadline`."""
        try:
            while not delivery.done and (remaining := deadline - time.monotonic()) > 0:
                if self._takes_over(delivery):
                    # Kafka may refuse the password that it was sent with.
                    self.credentials.renew(self.producer)
                    self._ask(self.producer.poll, min(remaining, self.credentials.patience))
                else:
                    delivery.await_event(remaining)
        finally:
            self._leave(delivery)

    def serve(self) -> None:
        """Take the reports that have come, without waiting."""
        self._ask(self.producer.poll, 0.0)

    def flush(self, timeout: float) -> int:
        """Wait for what is under way, at most `timeout` seconds; return how many records remain."""
        self._ask(self.producer.flush, timeout)
        return len(self.producer)

    def _ask(self, question: Callable[[float], int], timeout: float) -> None:
        try:
            question(timeout)
        except KafkaException as error:
            # Raised to whoever happens to ask; of the single records the reports tell all the same.
            self.failure = error.args[0]

    def hurry(self, last: _Delivery, deadline: float) -> None:
        """Have everything sent that lingers, and return when `last` is done or at `deadline`."""
        pause = _FIRST_LOOK
        while not last.done and (remaining := deadline - time.monotonic()) > 0:
            self.credentials.renew(self.producer)
            # It returns at once when nothing is under way; else others may keep it busy with records of theirs.
            self._ask(self.producer.flush, min(pause, remaining))
            pause = min(2 * pause, _LATER_LOOKS)

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
            if delivery.event is None:
                delivery.event = Event()
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
                if not heir.done and heir.event is not None:
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
        # Two, because a record that somebody waits for must not linger.
        self._clients = PerProcess(lambda: self._connect(0))
        self._lingering = PerProcess(lambda: self._connect(_LINGER_MS))
        atexit.register(self.close)

    def _connect(self, linger: int) -> _Client:
        return _Client(
            Credentials(self._settings.kafka),
            {
                **_common(self._settings),
                "enable.idempotence": True,
                "acks": "all",
                "linger.ms": linger,
                "delivery.timeout.ms": max(1, round(self._timeout * 1000)),
                "message.max.bytes": self._limit + _HEADROOM,
                # A topic that the brokers do not have is refused while the caller still waits.
                "topic.metadata.propagation.max.ms": max(1, round(self._timeout * 500)),
            },
        )

    def publish(self, topic: str, record: Record) -> None:
        """
        Return once the broker has acknowledged the record.

        Raises PublishRefused when the broker certainly does not have it, PublishAmbiguous when it may.
        """
        delivery = self._begin(self._clients, topic, record)
        error = self._end(delivery, time.monotonic() + self._timeout + _REPORT_MARGIN)
        if error is not None:
            raise error

    def publish_many(self, records: Sequence[tuple[str, Record]]) -> list[PublishError | None]:
        """Publish in this order, wait for all, and return for each record None or what `publish` would have raised."""
        begun: list[_Delivery | PublishError] = []
        for topic, record in records:
            try:
                begun.append(self._begin(self._clients, topic, record))
            except PublishRefused as error:
                begun.append(error)
        deadline = time.monotonic() + self._timeout + _REPORT_MARGIN
        return [self._end(one, deadline) if isinstance(one, _Delivery) else one for one in begun]

    def begin(self, topic: str, record: Record) -> _Delivery:
        """Hand a record to the client, without waiting; raise PublishRefused when it does not take it."""
        return self._begin(self._lingering, topic, record)

    def _begin(self, clients: PerProcess[_Client], topic: str, record: Record) -> _Delivery:
        found = size(record)
        if found > self._limit:
            raise PublishRefused(
                f'a record of {found} bytes for topic {topic} exceeds TASKBRIDGE["max_message_bytes"], {self._limit}'
            )
        try:
            client = clients.get()
        except (KafkaException, ValueError, ConfigurationError) as error:
            raise PublishRefused(
                f"the Kafka client cannot be made: {_reason(error)}; check the KAFKA_* variables"
            ) from error
        client.credentials.renew(client.producer)
        delivery, headers = _Delivery(client, topic), _headers(record)
        try:
            try:
                client.producer.produce(topic, record.value, record.key, on_delivery=delivery, headers=headers)
            except BufferError:
                # What has been reported on still takes up room until somebody asks for the reports.
                client.serve()
                client.producer.produce(topic, record.value, record.key, on_delivery=delivery, headers=headers)
        except BufferError:
            raise PublishRefused(f"the Kafka client's queue is full, so topic {topic} takes no record now") from None
        except KafkaException as error:
            self._retire_if_fatal(client, error.args[0])
            raise PublishRefused(
                f"the Kafka client did not take a record for topic {topic}: {_reason(error)}"
            ) from error
        return delivery

    def end(self, begun: Sequence[_Delivery], timeout: float | None = None) -> list[PublishError | None]:
        """
        Wait until the last of these records is reported on, at most `timeout` seconds, by default their own limit.

        Returns for each None or what `publish` would have raised.
        """
        deadline = time.monotonic() + (self._timeout + _REPORT_MARGIN if timeout is None else timeout)
        for delivery in begun:
            if not delivery.done:
                delivery.client.hurry(delivery, deadline)
        return [self._end(delivery, deadline) for delivery in begun]

    def _end(self, delivery: _Delivery, deadline: float) -> PublishError | None:
        client = delivery.client
        if not delivery.done:
            client.wait(delivery, deadline)
        if client.failure is not None:
            self._retire_if_fatal(client, client.failure)
        if not delivery.done:
            return PublishAmbiguous(f"Kafka did not confirm a record for topic {delivery.topic} in time")
        error = delivery.error
        if error is None:
            return None
        self._retire_if_fatal(client, error)
        if error.code() in _NEVER_STORED:
            return PublishRefused(f"Kafka does not take a record for topic {delivery.topic}: {error.str()}")
        return PublishAmbiguous(f"Kafka did not confirm a record for topic {delivery.topic}: {error.str()}")

    def _retire_if_fatal(self, client: _Client, error: Any) -> None:
        if not isinstance(error, KafkaError) or not (error.fatal() or error.code() == KafkaError._FATAL):
            return
        if client in (self._clients.peek(), self._lingering.peek()):
            logger.warning("the Kafka producer failed for good and is replaced: %s", error.str())
            self._clients.discard(client)
            self._lingering.discard(client)

    def flush(self, timeout: float = 5.0) -> int:
        """Wait for what is under way in this process, at most `timeout` seconds; return how many records remain."""
        deadline = time.monotonic() + timeout
        return sum(
            client.flush(max(0.0, deadline - time.monotonic()))
            for client in (self._lingering.peek(), self._clients.peek())
            if client is not None
        )

    def close(self) -> None:
        """Flush, and give the clients up; another publish would make new ones."""
        self.flush()
        self._clients.take()
        self._lingering.take()


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
        self._credentials = Credentials(settings.kafka)
        self._producers = PerProcess(self._connect)
        self._offered = 0
        atexit.register(self.close)

    def _connect(self) -> Producer:
        return _make(
            {
                **self._credentials.begin(),
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
            self._credentials.renew(producer)
            # Reports of failures wait for a poll, and their records in the queue until then.
            self._offered += 1
            if self._offered % _POLL_EVERY == 0:
                producer.poll(0)
            headers = _headers(record)
            try:
                producer.produce(topic, record.value, record.key, headers=headers)
            except BufferError:
                # Without a report there is no more room than before.
                if not producer.poll(0):
                    raise
                producer.produce(topic, record.value, record.key, headers=headers)
        except (BufferError, KafkaException, ValueError, TypeError, ConfigurationError) as error:
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

_COPY_LINGER_MS = 200
_COPY_TIMEOUT_MS = 10_000
_COPY_BUFFER_KBYTES = 32 * 1024
_POLL_EVERY = 64


def _make(config: dict[str, Any]) -> Producer:
    log = ClientLog(logger)
    # The client asks of its logger no more than the method `log`.
    return Producer({**config, "error_cb": log.error}, logger=cast(logging.Logger, log))


def _common(settings: Settings) -> dict[str, Any]:
    return {
        "client.id": f"taskbridge-{settings.prefix}",
        "partitioner": PARTITIONER,
        "allow.auto.create.topics": False,
        "socket.keepalive.enable": True,
        "socket.nagle.disable": True,
        "log.connection.close": False,
    }


def _headers(record: Record) -> _ClientHeaders:
    # The same list: lists are invariant, and the client's type also allows text and null.
    return cast(_ClientHeaders, record.headers)


def _reason(error: BaseException) -> str:
    """Return what librdkafka says, without the configuration's values."""
    cause = error.args[0] if error.args else error
    return cause.str() if isinstance(cause, KafkaError) else str(cause)
