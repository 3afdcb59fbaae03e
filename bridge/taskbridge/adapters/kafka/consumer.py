"""The worker's member of a consumer group."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from taskbridge.adapters.kafka.clientlog import ClientLog
from taskbridge.adapters.kafka.credentials import Credentials
from taskbridge.exceptions import BrokerUnavailable, ConfigurationError
from taskbridge.settings import GroupProtocol, KafkaSettings
from taskbridge.worker.source import Assigned, Fetched

logger = logging.getLogger(__name__)

REQUEST_TIMEOUT = 10.0
"""Seconds to wait for answers about metadata and committed offsets."""

CLOSE_TIMEOUT = 5.0
"""Seconds for a synchronous commit."""


class KafkaRecordSource:
    """
    Reads one topic as a member of one group, without ever guessing where to begin.

    `auto.offset.reset` is `error`: a group that stayed empty for too long loses its offsets, and both answers that
    Kafka offers then, the oldest record or the newest, would be wrong, one running everything twice, the other nothing.
    """

    def __init__(
        self, kafka: KafkaSettings, topic: str, group: str, protocol: GroupProtocol = "consumer", client_id: str = ""
    ) -> None:
        self._kafka = kafka
        self._topic = topic
        self._group = group
        self._protocol = protocol
        self._client_id = client_id or group
        self._credentials = Credentials(kafka)
        self._consumer: Consumer | None = None
        self._joined = False
        self._as_stranger: Any = None
        self._failed: set[int] = set()
        self._last_said: dict[int, float] = {}

    def open(
        self,
        on_assigned: Callable[[Sequence[Assigned]], None],
        on_revoked: Callable[[Sequence[int]], None],
        on_lost: Callable[[Sequence[int]], None],
    ) -> None:
        """Join the group; raise ConfigurationError when the topic is missing, BrokerUnavailable when Kafka is."""
        # The client asks of its logger no more than the method `log`.
        consumer = Consumer(self._config(), logger=cast(logging.Logger, ClientLog(logger)))
        self._consumer = consumer
        self._require_topic(consumer)

        def assigned(client: Consumer, partitions: list[TopicPartition]) -> None:
            self._joined = True
            found = self._committed(client, partitions)
            on_assigned([Assigned(one.partition, one.offset, one.metadata or "") for one in found])
            client.incremental_assign([TopicPartition(self._topic, one.partition, one.offset) for one in found])

        def revoked(client: Consumer, partitions: list[TopicPartition]) -> None:
            on_revoked([one.partition for one in partitions])
            client.incremental_unassign(partitions)

        def lost(client: Consumer, partitions: list[TopicPartition]) -> None:
            on_lost([one.partition for one in partitions])
            client.incremental_unassign(partitions)

        self._as_stranger = consumer.consumer_group_metadata()
        consumer.subscribe([self._topic], on_assign=assigned, on_revoke=revoked, on_lost=lost)

    def _committed(self, client: Consumer, partitions: list[TopicPartition]) -> list[TopicPartition]:
        # What is raised here comes out of the poll that called us, and ends the worker: beginning anywhere but at the
        # committed offset would be worse.
        try:
            found = client.committed(partitions, timeout=REQUEST_TIMEOUT)
        except KafkaException as error:
            raise BrokerUnavailable(
                f"the offsets of group {self._group} could not be read ({error.args[0].str()}): restart the worker"
                " when Kafka answers again"
            ) from error
        if errors := [one.error for one in found if one.error is not None]:
            raise ConfigurationError(
                f"the offsets of group {self._group} could not be read: {errors[0].str()}; may this user describe the"
                " group?"
            )
        return found

    def _config(self) -> dict[str, Any]:
        config: dict[str, Any] = {
            **self._credentials.begin(),
            "client.id": self._client_id,
            "group.id": self._group,
            "group.protocol": self._protocol,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "error",
            "allow.auto.create.topics": False,
            "isolation.level": "read_committed",
            # librdkafka's default of one second leaves a fast consumer idle between fetches.
            "fetch.queue.backoff.ms": 5,
            "fetch.wait.max.ms": 100,
            "queued.max.messages.kbytes": 16384,
            "on_commit": self._on_commit,
            "error_cb": self._on_error,
        }
        if self._protocol == "classic":
            config["partition.assignment.strategy"] = "cooperative-sticky"
        return config

    def _require_topic(self, consumer: Consumer) -> None:
        try:
            topics = consumer.list_topics(self._topic, timeout=REQUEST_TIMEOUT).topics
        except KafkaException as error:
            raise BrokerUnavailable(
                f"Kafka at {self._kafka.bootstrap_servers} does not answer ({error.args[0].str()}):"
                " check KAFKA_BOOTSTRAP_SERVERS and that the brokers are up"
            ) from error
        found = topics.get(self._topic)
        if found is None or found.error is not None:
            why = "does not exist" if found is None or found.error.code() == 3 else f"cannot be read: {found.error}"
            raise ConfigurationError(f"topic {self._topic} {why}; run `taskbridge topics` to create what is missing")

    def joined(self) -> bool:
        """Return whether the group has, or had, this member, also without a partition."""
        if not self._joined and self._protocol == "consumer":
            # Nobody is told of an empty assignment then; but the metadata hold the epoch that the group has given us.
            self._joined = self._opened().consumer_group_metadata() != self._as_stranger
        return self._joined

    def poll(self, timeout: float, most: int) -> list[Fetched]:
        """Return up to `most` records, waiting up to `timeout` seconds for the first, and serve callbacks."""
        consumer = self._opened()
        self._credentials.renew(consumer)
        first = consumer.poll(timeout)
        if first is None:
            return []
        messages = [first]
        if most > 1:
            # `consume` waits until it has all it was asked for, so it only takes what is there already.
            messages += consumer.consume(most - 1, 0)
        return [record for message in messages if (record := self._record(message)) is not None]

    def _record(self, message: Message) -> Fetched | None:
        error = message.error()
        if error is not None:
            self._on_partition_error(message, error)
            return None
        partition, offset = message.partition(), message.offset()
        if partition is None or offset is None:
            return None
        written = message.timestamp()[1] / 1000
        return Fetched(partition, offset, message.key(), message.value(), message.headers() or [], written)  # type: ignore[arg-type]

    def _on_partition_error(self, message: Message, error: KafkaError) -> None:
        if error.code() in {KafkaError._AUTO_OFFSET_RESET, KafkaError._NO_OFFSET, KafkaError.OFFSET_OUT_OF_RANGE}:
            logger.error(
                "%s partition %s is stopped: its committed offset for group %s is missing or no longer in the log (%s);"
                " see which records are gone, then set it with kafka-consumer-groups or `taskbridge topics`",
                self._topic,
                message.partition(),
                self._group,
                error.str(),
            )
        else:
            self._on_error(error)

    def _on_error(self, error: KafkaError) -> None:
        now = time.monotonic()
        # While Kafka is away librdkafka repeats itself several times a second.
        if now - self._last_said.get(error.code(), float("-inf")) > 30:
            self._last_said[error.code()] = now
            logger.warning("Kafka: %s; the client keeps trying", error.str())

    def commit(self, offsets: Mapping[int, tuple[int, str]], wait: bool) -> None:
        """Commit (offset, metadata) per partition; with `wait` raise BrokerUnavailable when that fails."""
        consumer = self._opened()
        positions = [
            TopicPartition(self._topic, partition, offset, metadata)
            for partition, (offset, metadata) in offsets.items()
        ]
        try:
            if wait:
                results = consumer.commit(offsets=positions, asynchronous=False) or []
                if failed := [one for one in results if one.error is not None]:
                    raise KafkaException(failed[0].error)
            else:
                consumer.commit(offsets=positions, asynchronous=True)
        except KafkaException as error:
            self._failed.update(offsets)
            if wait:
                raise BrokerUnavailable(f"the offsets could not be committed: {error.args[0].str()}") from error

    def _on_commit(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        failed = {one.partition for one in partitions if error is not None or one.error is not None}
        if failed:
            self._failed.update(failed)
            logger.warning("a commit failed and will be repeated: %s", error or partitions[0].error)

    def failed_commits(self) -> set[int]:
        """Return, once, the partitions whose last commit did not succeed."""
        failed, self._failed = self._failed, set()
        return failed

    def pause(self, partitions: Sequence[int]) -> None:
        """Fetch no more of these partitions."""
        self._opened().pause([TopicPartition(self._topic, one) for one in partitions])

    def resume(self, partitions: Sequence[int]) -> None:
        """Fetch these partitions again."""
        self._opened().resume([TopicPartition(self._topic, one) for one in partitions])

    def ends(self, partitions: Sequence[int]) -> dict[int, int]:
        """Return the end offsets as the last fetches told, without asking; what is not known is left out."""
        consumer = self._opened()
        found = {}
        for number in partitions:
            _, end = consumer.get_watermark_offsets(TopicPartition(self._topic, number), cached=True)
            if end >= 0:
                found[number] = end
        return found

    def close(self) -> None:
        """Leave the group; the revoke callback runs from within."""
        if self._consumer is not None:
            self._consumer.close()
            self._consumer = None

    def _opened(self) -> Consumer:
        if self._consumer is None:
            raise ConfigurationError("the consumer is not open")
        return self._consumer
