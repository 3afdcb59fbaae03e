"""Questions to Kafka about topics, groups and offsets, each answered or refused in one sentence."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from threading import Event
from typing import Any, Literal, TypeVar

from confluent_kafka import (
    Consumer,
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec  # type: ignore[attr-defined]  # re-exports

from taskbridge.adapters.kafka.credentials import Credentials
from taskbridge.exceptions import BrokerUnavailable, ConfigurationError, TaskbridgeError
from taskbridge.settings import KafkaSettings

TIMEOUT = 10.0
"""Seconds for one question to Kafka, repetitions included."""

ATTEMPT = 2.5
"""
Seconds for one question.

A client that asks a new cluster for its first group coordinator gets no answer at all, and one at once when it asks
again.
"""

RETRY_INTERVAL = 0.1
"""Seconds between repetitions while a broker is still loading."""

Start = Literal["earliest", "latest"]
C = TypeVar("C")
K = TypeVar("K")
V = TypeVar("V")

_LATER = {
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    # A topic that was created a moment ago: the broker asked knows less of it than the one that answered before.
    KafkaError.UNKNOWN_LEADER_EPOCH,
    KafkaError.FENCED_LEADER_EPOCH,
}
_SILENT = {
    KafkaError._TIMED_OUT,
    KafkaError._TRANSPORT,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._WAIT_COORD,
    KafkaError._RESOLVE,
    KafkaError._AUTHENTICATION,
    KafkaError._SSL,
    KafkaError.REQUEST_TIMED_OUT,
}
_DENIED = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
}


class Cluster:
    """
    One Kafka cluster, seen by an administrator.

    Every method raises BrokerUnavailable, naming the bootstrap servers, when Kafka does not answer in about `timeout`
    seconds, and ConfigurationError when it denies or refuses the operation.
    """

    def __init__(self, kafka: KafkaSettings, timeout: float = TIMEOUT) -> None:
        """Connects when first asked."""
        self._kafka = kafka
        self._timeout = timeout
        self._last_error = ""
        self._credentials = Credentials(kafka)
        self._client: AdminClient | None = None

    def partition_counts(self, names: Iterable[str]) -> dict[str, int]:
        """Return the partition counts of those topics that exist."""
        counts = {}
        collection = TopicCollection(list(names))
        for name, outcome in self._all(
            lambda left: self._admin().describe_topics(collection, request_timeout=left)
        ).items():
            if not isinstance(outcome, KafkaError):
                counts[name] = len(outcome.partitions)
            elif outcome.code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise self._translated(outcome, f"looking for topic {name}")
        return counts

    def create(self, topics: list[NewTopic]) -> dict[str, int]:
        """Create topics, wait until they can be used, and return their partition counts."""
        for name, outcome in self._all(
            lambda left: self._admin().create_topics(topics, request_timeout=left, operation_timeout=left)
        ).items():
            if not isinstance(outcome, KafkaError) or outcome.code() == KafkaError.TOPIC_ALREADY_EXISTS:
                continue
            if outcome.code() == KafkaError.INVALID_REPLICATION_FACTOR:
                raise ConfigurationError(
                    f"topic {name} cannot be created: {outcome.str()}; "
                    f"set the service's replication_factor to at most the number of brokers"
                )
            raise self._translated(outcome, f"creating topic {name}")
        names = [topic.topic for topic in topics]
        deadline = time.monotonic() + self._timeout
        while len(found := self.partition_counts(names)) < len(names):
            if time.monotonic() > deadline:
                absent = ", ".join(sorted(set(names) - set(found)))
                raise BrokerUnavailable(f"{self._where()} was told to create {absent} but does not show it yet")
            Event().wait(RETRY_INTERVAL)
        for name, partitions in found.items():
            # A partition that is shown has not always got a leader yet; one that tells its offset has.
            self.offsets(name, partitions, "latest")
        return found

    def offsets(self, topic: str, partitions: int, which: Start) -> dict[int, int]:
        """Return the first (`earliest`) or the end offset (`latest`) of each partition."""
        which_offset: Any = OffsetSpec
        spec = which_offset.earliest() if which == "earliest" else which_offset.latest()
        request = {TopicPartition(topic, number): spec for number in range(partitions)}
        found = {}
        for partition, outcome in self._all(
            lambda left: self._admin().list_offsets(request, request_timeout=left)
        ).items():
            if isinstance(outcome, KafkaError):
                raise self._translated(outcome, f"reading the offsets of {topic}")
            found[partition.partition] = outcome.offset
        return found

    def committed(self, group: str, topic: str, partitions: int) -> dict[int, TopicPartition]:
        """
        Return what a group has stored per partition, with an offset below 0 where that is nothing.

        A partition of which Kafka says nothing, as it does where it denies the topic, is left out.
        """
        asked = [TopicPartition(topic, number) for number in range(partitions)]
        # Not by the administrator's client: where the coordinator is still loading, or has just moved, its answer ends
        # the process with SIGSEGV (https://github.com/confluentinc/librdkafka/issues/5040). This consumer never joins.
        consumer = self._made(Consumer, {"group.id": group, "enable.auto.commit": False})
        try:
            answer = self._one(
                lambda left: {group: _answered(lambda: consumer.committed(asked, timeout=left))},
                f"reading the offsets of group {group}",
            )
        finally:
            consumer.close()
        return {item.partition: item for item in answer if item.error is None}

    def members(self, group: str, topic: str) -> dict[str, frozenset[int]]:
        """Return the members of a group, by `client id at host`, with the partitions of the topic that each owns."""
        answer = self._one(
            lambda left: self._admin().describe_consumer_groups([group], request_timeout=left),
            f"looking for the members of group {group}",
        )
        found: dict[str, frozenset[int]] = {}
        for member in answer.members:
            name = f"{member.client_id} at {member.host.lstrip('/')}"
            owned = member.assignment.topic_partitions if member.assignment else ()
            mine = {item.partition for item in owned if item.topic == topic}
            # Several members may have one name.
            found[name] = found.get(name, frozenset()) | mine
        return found

    def commit(self, group: str, topic: str, offsets: Mapping[int, int]) -> None:
        """Store offsets for a group; raises ConfigurationError while the group has members."""
        given = [TopicPartition(topic, number, offset) for number, offset in offsets.items()]
        doing = f"committing offsets of group {group}"
        answer = self._one(
            lambda left: self._admin().alter_consumer_group_offsets(
                [ConsumerGroupTopicPartitions(group, given)], request_timeout=left
            ),
            doing,
        )
        for partition in answer.topic_partitions:
            if partition.error is None:
                continue
            # The broker lets nobody but a member commit to a group that has members.
            if partition.error.code() in {KafkaError.UNKNOWN_MEMBER_ID, KafkaError.NON_EMPTY_GROUP}:
                raise ConfigurationError(
                    f"group {group} lacks offsets but has running consumers: "
                    f"stop its workers, run `taskbridge topics`, and start them again"
                )
            raise self._translated(partition.error, doing)

    def _one(self, ask: Callable[[float], dict[str, Future[V]]], doing: str) -> V:
        (outcome,) = self._all(ask).values()
        if isinstance(outcome, KafkaError):
            raise self._translated(outcome, doing)
        return outcome

    def _all(self, ask: Callable[[float], dict[K, Future[V]]]) -> dict[K, V | KafkaError]:
        """Return each answer or error, repeating the question while a broker is silent or still loading."""
        deadline = time.monotonic() + self._timeout
        while True:
            outcomes: dict[K, V | KafkaError] = {}
            for name, future in ask(min(ATTEMPT, max(1.0, deadline - time.monotonic()))).items():
                try:
                    outcomes[name] = future.result()
                except KafkaException as error:
                    outcomes[name] = error.args[0]
            codes = {item.code() for item in outcomes.values() if isinstance(item, KafkaError)}
            if not codes & (_LATER | _SILENT) or time.monotonic() > deadline:
                return outcomes
            Event().wait(RETRY_INTERVAL)

    def _admin(self) -> AdminClient:
        if self._client is None:
            self._client = self._made(AdminClient, self._credentials.begin())
        self._credentials.renew(self._client)
        return self._client

    def _made(self, kind: Callable[[dict[str, Any]], C], extra: dict[str, Any]) -> C:
        # The client's own log repeats itself many times a second; what it says goes into our one sentence.
        try:
            return kind({**self._kafka.client_config(), "error_cb": self._note_error, "log_level": 0, **extra})
        except KafkaException as error:
            raise ConfigurationError(f"the KAFKA_* settings are refused: {error.args[0].str()}") from error

    def _note_error(self, error: KafkaError) -> None:
        self._last_error = error.str()

    def _where(self) -> str:
        return f"Kafka at {self._kafka.bootstrap_servers}"

    def _translated(self, error: KafkaError, doing: str) -> TaskbridgeError:
        if error.code() in _DENIED:
            return ConfigurationError(f"{self._where()} denies {doing}: grant it to this user ({error.str()})")
        if error.code() in _SILENT | _LATER:
            self._admin().poll(0)
            reason = f" ({self._last_error})" if self._last_error else ""
            return BrokerUnavailable(
                f"{self._where()} did not answer within {self._timeout:g} s while {doing}{reason}: "
                f"check KAFKA_BOOTSTRAP_SERVERS and that the brokers run"
            )
        return ConfigurationError(f"{self._where()} refused {doing}: {error.str()}")


def _answered(ask: Callable[[], V]) -> Future[V]:
    """Return a future that holds already what `ask` returned, or the KafkaException that it raised."""
    future: Future[V] = Future()
    try:
        future.set_result(ask())
    except KafkaException as error:
        future.set_exception(error)
    return future
