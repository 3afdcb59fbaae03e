"""Topics, users and rights of a real Kafka."""

import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from threading import Event
from typing import Any, TypeVar

from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # re-exports
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from standin.errors import StandinError
from standin.resources import Acl, Topic, User

__all__ = ["Broker"]

TIMEOUT = 60.0
"""Seconds for one question."""

ITERATIONS = 4096
"""Rounds of hashing that SCRAM asks for at least, and Strimzi uses."""

INTERVAL = 0.05
"""Seconds between looks whether a change is there."""

V = TypeVar("V")


class Broker:
    """
    A Kafka cluster, as an administrator sees it.

    Every method raises StandinError, naming what could not be applied, when Kafka refuses or does not answer.
    """

    def __init__(self, config: Mapping[str, str]) -> None:
        """`config` are librdkafka's properties, `bootstrap.servers` among them."""
        try:
            self._admin = AdminClient({**config, "log_level": 0})
        except KafkaException as error:
            raise StandinError(f"the Kafka client refuses its properties: {error.args[0].str()}") from error
        self._where = config.get("bootstrap.servers", "")

    def apply_topic(self, topic: Topic) -> str:
        """Create a topic, or change what differs of it; return `created`, `changed` or `unchanged`."""
        found = self._partitions(topic.name)
        if found is None:
            new = NewTopic(topic.name, topic.partitions, topic.replicas, config=dict(topic.config))
            created = self._admin.create_topics([new], request_timeout=TIMEOUT, operation_timeout=TIMEOUT)
            self._done(created[topic.name], f"creating topic {topic.name}")
            self._until(lambda: self._partitions(topic.name) is not None, f"showing topic {topic.name}")
            return "created"
        if 0 < topic.partitions < found:
            raise StandinError(
                f"topic {topic.name} has {found} partitions, and {topic.partitions} are asked for: "
                "Kafka cannot take any away."
            )
        grown = topic.partitions > found
        if grown:
            more = self._admin.create_partitions([NewPartitions(topic.name, topic.partitions)], request_timeout=TIMEOUT)
            self._done(more[topic.name], f"adding partitions to topic {topic.name}")
            shown = f"showing {topic.partitions} partitions of topic {topic.name}"
            self._until(lambda: self._partitions(topic.name) == topic.partitions, shown)
        wrong = self._differences(topic)
        if wrong:
            self._configure(topic.name, wrong)
            self._until(lambda: not self._differences(topic), f"showing the settings of topic {topic.name}")
        return "changed" if wrong or grown else "unchanged"

    def _partitions(self, name: str) -> int | None:
        asked = self._admin.describe_topics(TopicCollection([name]), request_timeout=TIMEOUT)
        try:
            return len(asked[name].result().partitions)
        except KafkaException as error:
            if error.args[0].name() == "UNKNOWN_TOPIC_OR_PART":
                return None
            raise self._failure(f"looking for topic {name}", error) from error

    def _differences(self, topic: Topic) -> dict[str, str]:
        """Return the settings that are not as the topic wants them, as it wants them."""
        resource = ConfigResource(ResourceType.TOPIC, topic.name)
        (asked,) = self._admin.describe_configs([resource], request_timeout=TIMEOUT).values()
        found = self._done(asked, f"reading the settings of topic {topic.name}")
        return {key: value for key, value in topic.config.items() if key not in found or found[key].value != value}

    def _configure(self, name: str, config: Mapping[str, str]) -> None:
        entries = [
            ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET) for key, value in config.items()
        ]
        change = ConfigResource(ResourceType.TOPIC, name, incremental_configs=entries)
        (changed,) = self._admin.incremental_alter_configs([change], request_timeout=TIMEOUT).values()
        self._done(changed, f"setting {', '.join(sorted(config))} of topic {name}")

    def _until(self, shown: Callable[[], bool], doing: str) -> None:
        """Wait until the brokers show what the controller has confirmed: they hear of it a moment later."""
        deadline = time.monotonic() + TIMEOUT
        while not shown():
            if time.monotonic() > deadline:
                raise StandinError(f"Kafka at {self._where} takes longer than {TIMEOUT:g} s at {doing}.")
            Event().wait(INTERVAL)

    def apply_user(self, user: User, password: str) -> str:
        """Give a user its password and exactly its rights; return `created`, `changed` or `unchanged` rights."""
        scram = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, ITERATIONS)
        upsertion = UserScramCredentialUpsertion(user.name, scram, password.encode())
        (altered,) = self._admin.alter_user_scram_credentials([upsertion], request_timeout=TIMEOUT).values()
        self._done(altered, f"setting the password of user {user.name}")
        found = self.acls(user.name)
        if more := sorted(user.acls - found):
            bindings = [_binding(user.name, acl) for acl in more]
            self._all(self._admin.create_acls(bindings, request_timeout=TIMEOUT).values(), f"granting to {user.name}")
        if fewer := sorted(found - user.acls):
            filters = [_filter(user.name, acl) for acl in fewer]
            self._all(self._admin.delete_acls(filters, request_timeout=TIMEOUT).values(), f"revoking of {user.name}")
        # The password came before them in the same log, so it is known when they are.
        self._until(lambda: self.acls(user.name) == user.acls, f"showing the rights of user {user.name}")
        if not found and more:
            return "created"
        return "changed" if more or fewer else "unchanged"

    def acls(self, user: str) -> frozenset[Acl]:
        """Return the rights that a user has."""
        # None is any name, and any host; the client's type allows for text only.
        everyone: Any = None
        operation, permission = AclOperation.ANY, AclPermissionType.ANY
        everything = AclBindingFilter(
            ResourceType.ANY, everyone, ResourcePatternType.ANY, _principal(user), everyone, operation, permission
        )
        asked = self._admin.describe_acls(everything, request_timeout=TIMEOUT)
        return frozenset(
            Acl(
                found.restype.name,
                found.name,
                found.resource_pattern_type.name,
                found.operation.name,
                found.permission_type.name,
                found.host,
            )
            for found in self._done(asked, f"reading the rights of user {user}")
        )

    def _all(self, futures: Iterable["Future[Any]"], doing: str) -> None:
        for future in futures:
            self._done(future, doing)

    def _done(self, future: "Future[V]", doing: str) -> V:
        try:
            return future.result()
        except KafkaException as error:
            raise self._failure(doing, error) from error

    def _failure(self, doing: str, error: KafkaException) -> StandinError:
        return StandinError(f"Kafka at {self._where} failed at {doing}: {error.args[0].str()}")


def _principal(user: str) -> str:
    return f"User:{user}"


def _binding(user: str, acl: Acl) -> AclBinding:
    return AclBinding(
        ResourceType[acl.resource],
        acl.name,
        ResourcePatternType[acl.pattern],
        _principal(user),
        acl.host,
        AclOperation[acl.operation],
        AclPermissionType[acl.permission],
    )


def _filter(user: str, acl: Acl) -> AclBindingFilter:
    return AclBindingFilter(
        ResourceType[acl.resource],
        acl.name,
        ResourcePatternType[acl.pattern],
        _principal(user),
        acl.host,
        AclOperation[acl.operation],
        AclPermissionType[acl.permission],
    )
