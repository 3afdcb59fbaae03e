"""What happens to a cluster while the sampler looks at it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # re-exports
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    NewPartitions,
    NewTopic,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from devstack.secure_kafka import SecureKafka
from lagscaler.kafka.sampler import Reading, Request, Sampler
from lagscaler.settings import ClusterSettings
from tests.project.harness import wait_for

PATIENCE = 90.0
"""Seconds for what was changed to be seen by everybody."""


class Administrator:
    """Does what owners of a cluster do. Each topic, group and user is its own, whatever other tests do."""

    def __init__(self, broker: SecureKafka) -> None:
        self.broker = broker
        self.client = AdminClient({"bootstrap.servers": broker.admin_url, "log_level": 0})
        self.tag = uuid4().hex[:8]
        self.topic, self.group, self.user = f"orders-{self.tag}", f"workers-{self.tag}", f"operator-{self.tag}"

    @property
    def settings(self) -> ClusterSettings:
        """How who may do all gets in."""
        return ClusterSettings("main", self.broker.admin_url)

    def with_password(self, path: Path) -> ClusterSettings:
        """How this administrator's user gets in, with the password in a file."""
        return ClusterSettings("main", self.broker.url, "SASL_PLAINTEXT", "SCRAM-SHA-512", self.user, path)

    def create(self, partitions: int = 2, name: str | None = None) -> None:
        """Create the topic, and return when it can be written to."""
        _done(self.client.create_topics([NewTopic(name or self.topic, partitions, 1)]))
        wait_for(lambda: len(self._leaders(name or self.topic)) == partitions, "leaders of a new topic")

    def extend(self, partitions: int) -> None:
        """Give the topic more partitions."""
        _done(self.client.create_partitions([NewPartitions(self.topic, partitions)]))

    def delete(self) -> None:
        """Delete the topic."""
        _done(self.client.delete_topics([self.topic]))

    def delete_group(self) -> None:
        """Delete the group and all that it committed."""
        _done(self.client.delete_consumer_groups([self.group]))

    def forget_before(self, offset: int, partition: int = 0) -> None:
        """Delete records, as retention does."""
        _done(self.client.delete_records([TopicPartition(self.topic, partition, offset)]))

    def write(self, times: Iterable[float], partition: int = 0) -> None:
        """Write a record for each time, in seconds since the epoch."""
        producer = Producer({"bootstrap.servers": self.broker.admin_url, "log_level": 0, "linger.ms": 20})
        for when in times:
            producer.produce(self.topic, b"x" * 100, partition=partition, timestamp=int(when * 1000))
        assert producer.flush(PATIENCE) == 0

    def write_now(self, count: int, partition: int = 0) -> None:
        """Write so many records."""
        self.write([time.time()] * count, partition)

    @contextmanager
    def transaction(self) -> Iterator[Producer]:
        """A producer within a transaction, to be committed or aborted by the caller."""
        producer = Producer(
            {"bootstrap.servers": self.broker.admin_url, "log_level": 0, "transactional.id": f"t-{uuid4().hex}"}
        )
        _retried(lambda: producer.init_transactions(30))
        producer.begin_transaction()
        yield producer

    def commit(self, offsets: Mapping[int, int], metadata: str = "", group: str | None = None) -> None:
        """Commit for a group without members."""
        given = [TopicPartition(self.topic, number, offset, metadata) for number, offset in offsets.items()]
        asked = [ConsumerGroupTopicPartitions(group or self.group, given)]
        _retried(lambda: _done(self.client.alter_consumer_group_offsets(asked, request_timeout=10)))

    @contextmanager
    def member(self, protocol: str) -> Iterator[Consumer]:
        """A member of the group that owns every partition."""
        consumer = Consumer(
            {
                "bootstrap.servers": self.broker.admin_url,
                "group.id": self.group,
                "group.protocol": protocol,
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "log_level": 0,
            }
        )
        consumer.subscribe([self.topic])

        def owns() -> bool:
            consumer.poll(0.1)
            return bool(consumer.assignment())

        try:
            wait_for(owns, "an assignment")
            yield consumer
        finally:
            consumer.close()

    def set_password(self, password: str) -> None:
        """Make the user, or change its password."""
        credential = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
        _done(
            self.client.alter_user_scram_credentials(
                [UserScramCredentialUpsertion(self.user, credential, password.encode())]
            )
        )

    def grant(self, kind: ResourceType, name: str) -> None:
        """Let the user describe something."""
        _done(self.client.create_acls([self._right(AclBinding, kind, name)]))

    def revoke(self, kind: ResourceType, name: str) -> None:
        """Take that right away."""
        _done(self.client.delete_acls([self._right(AclBindingFilter, kind, name)]))

    def _right(self, make: Callable[..., Any], kind: ResourceType, name: str) -> Any:
        user, allow = f"User:{self.user}", AclPermissionType.ALLOW
        return make(kind, name, ResourcePatternType.LITERAL, user, "*", AclOperation.DESCRIBE, allow)

    def _leaders(self, topic: str) -> list[int]:
        found = self.client.list_topics(timeout=PATIENCE).topics.get(topic)
        return [one.leader for one in found.partitions.values() if one.leader >= 0] if found else []


async def until(sampler: Sampler, request: Request, condition: Callable[[Reading], Any]) -> Reading:
    """Return the first reading of which a condition is true."""
    reading: Reading | None = None
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        reading = (await sampler.sample([request]))[request.key]
        if condition(reading):
            return reading
        await asyncio.sleep(0.1)
    raise AssertionError(f"it did not come true within {PATIENCE:g} s; the last reading is {reading}")


def _done(futures: Mapping[Any, Future[Any]]) -> None:
    for future in futures.values():
        future.result(PATIENCE)


def _retried(work: Callable[[], object]) -> None:
    """Do something that a coordinator refuses while it starts."""

    def done() -> bool:
        try:
            work()
        except KafkaException:
            return False
        return True

    wait_for(done, "an answer of a coordinator")
