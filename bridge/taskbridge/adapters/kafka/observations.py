"""Reads the observations topic from end to end, without joining a consumer group."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterator
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from taskbridge.exceptions import BrokerUnavailable, ConfigurationError, MalformedRecord
from taskbridge.observation import Batch, loads
from taskbridge.settings import Settings

logger = logging.getLogger(__name__)

client_logger = logging.getLogger(f"{__name__}.client")
"""
What librdkafka says of its connections, for programs that set logging up and ask for it.

Whoever reads gets an error that says as much in one sentence; while Kafka is away the client would add ten a second.
"""
client_logger.addHandler(logging.NullHandler())

RECORDS_AT_ONCE = 2_000

Progress = Callable[[int, int], None]


class KafkaObservationLog:
    """
    The observations topic as it stands when it is read.

    Reading commits nothing and disturbs no consumer. Records that cannot be read are counted in `malformed`, the
    first of them is described in `first_malformed`, and reading goes on.
    """

    def __init__(self, settings: Settings, timeout: float = 10.0, progress: Progress | None = None) -> None:
        """`timeout`: seconds of silence after which Kafka counts as gone; `progress` is told (done, all) records."""
        self._settings = settings
        self._timeout = timeout
        self._progress = progress
        self._last_error = ""
        self.malformed = 0
        self.first_malformed = ""

    def read(self, service: str, since: float | None = None) -> Iterator[Batch]:
        """Yield the batches of one service; see `read_all`."""
        return self.read_all([service], since)

    def read_all(self, services: Collection[str], since: float | None = None) -> Iterator[Batch]:
        """
        Yield the batches of services from `since` (seconds since the epoch) to the end that the topic has now.

        Raises ConfigurationError when the topic does not exist, BrokerUnavailable when Kafka does not answer.
        """
        consumer = Consumer(self._config(), logger=client_logger)
        try:
            spans = self._spans(consumer, since)
            for message in self._messages(consumer, spans):
                batch = self._batch(message, services)
                if batch is not None:
                    yield batch
        except KafkaException as error:
            raise self._unavailable(error.args[0].str()) from error
        finally:
            consumer.close()

    def _config(self) -> dict[str, Any]:
        return {
            **self._settings.kafka.client_config(),
            "client.id": f"{self._settings.prefix}-report",
            # The client insists on a name; partitions are assigned by hand, so no group is ever joined.
            "group.id": f"{self._settings.prefix}.report",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            # Retention may remove the beginning while it is being read.
            "auto.offset.reset": "earliest",
            "allow.auto.create.topics": False,
            "fetch.queue.backoff.ms": 5,
            "fetch.wait.max.ms": 50,
            "error_cb": self._on_error,
        }

    def _on_error(self, error: KafkaError) -> None:
        self._last_error = error.str()

    def _spans(self, consumer: Consumer, since: float | None) -> dict[int, tuple[int, int]]:
        """Return the offsets to read of each partition: from the first to before the second."""
        topic = self._settings.observations_topic
        metadata = consumer.list_topics(topic, timeout=self._timeout).topics[topic]
        if metadata.error is not None:
            if metadata.error.code() in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC):
                raise ConfigurationError(
                    f"the topic {topic} does not exist, so nothing was observed yet: "
                    "create it with `taskbridge topics`, then move a service to mirror"
                )
            raise KafkaException(metadata.error)
        partitions = [TopicPartition(topic, number) for number in metadata.partitions]
        spans: dict[int, tuple[int, int]] = {}
        for partition in partitions:
            spans[partition.partition] = consumer.get_watermark_offsets(partition, timeout=self._timeout)
        if since is not None:
            moments = [TopicPartition(topic, item.partition, int(since * 1000)) for item in partitions]
            for found in consumer.offsets_for_times(moments, timeout=self._timeout):
                low, high = spans[found.partition]
                # -1: every record of the partition is older.
                spans[found.partition] = (max(found.offset, low) if found.offset >= 0 else high, high)
        return {number: span for number, span in spans.items() if span[0] < span[1]}

    def _messages(self, consumer: Consumer, spans: dict[int, tuple[int, int]]) -> Iterator[Message]:
        topic = self._settings.observations_topic
        total, done = sum(end - start for start, end in spans.values()), 0
        unread = {number: end for number, (_, end) in spans.items()}
        consumer.assign([TopicPartition(topic, number, start) for number, (start, _) in spans.items()])
        heard = time.monotonic()
        while unread:
            messages = consumer.consume(RECORDS_AT_ONCE, timeout=0.2)
            if messages:
                heard = time.monotonic()
            elif time.monotonic() - heard > self._timeout:
                raise self._unavailable(f"silence after {done:,} of {total:,} records of {topic}")
            for message in messages:
                error = message.error()
                if error is not None and error.code() != KafkaError._PARTITION_EOF:
                    raise KafkaException(error)
                number, offset = message.partition() or 0, message.offset() or 0
                end = unread.get(number, -1)
                if error is None and offset < end:
                    done += 1
                    yield message
                # Transaction markers fill offsets and are never delivered, so the end is also told by its own error.
                if offset + (error is None) >= end:
                    unread.pop(number, None)
            if self._progress is not None:
                self._progress(done, total)

    def _batch(self, message: Message, services: Collection[str]) -> Batch | None:
        key = message.key()
        if isinstance(key, bytes) and key.decode(errors="replace") not in services:
            return None
        value = message.value()
        try:
            batch = loads(value.encode() if isinstance(value, str) else value)
        except MalformedRecord as error:
            self.malformed += 1
            if not self.first_malformed:
                self.first_malformed = f"{message.topic()} partition {message.partition()} offset {message.offset()}"
                logger.warning("skipped an observation at %s: %s", self.first_malformed, error)
            return None
        return batch if batch.service in services else None

    def _unavailable(self, reason: str) -> BrokerUnavailable:
        reason = f"{reason}; {self._last_error}" if self._last_error else reason
        return BrokerUnavailable(
            f"Kafka at {self._settings.kafka.bootstrap_servers} could not be read ({reason}): "
            "check KAFKA_BOOTSTRAP_SERVERS and that the brokers are up"
        )
