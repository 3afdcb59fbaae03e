"""Topics, the first offsets of consumer groups, and lag."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from confluent_kafka.admin import NewTopic  # type: ignore[attr-defined]  # a re-export

from taskbridge.adapters.kafka.cluster import TIMEOUT, Cluster, Start
from taskbridge.exceptions import ConfigurationError
from taskbridge.settings import ServiceSettings, Settings
from taskbridge.worker.tracker import decode_runs

OBSERVATION_PARTITIONS = 6
"""Partitions of the observations topic when it is created; any other number serves as well."""

HEADROOM = 65_536
"""Bytes that key, headers and a dead letter's traceback may add to the largest message."""

BROKER_DEFAULT_MAX_BYTES = 1_048_588
"""Kafka's own default of max.message.bytes, below which no topic is set."""

Role = Literal["live", "shadow"]


@dataclass(frozen=True, slots=True)
class TopicState:
    """A topic that the bridge needs; `state` is `ok`, `created`, or `missing` when nothing may be created."""

    name: str
    partitions: int
    state: Literal["ok", "created", "missing"]


@dataclass(frozen=True, slots=True)
class TopicPlan:
    """A topic as the settings want it; `replication_factor` is -1 where the brokers decide."""

    name: str
    partitions: int
    replication_factor: int
    config: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class PartitionLag:
    """
    What a group has still to do in one partition.

    `committed` is None when the group has no offset there, `end` when the broker did not say.
    """

    partition: int
    committed: int | None
    end: int | None
    done_beyond: int = 0

    @property
    def lag(self) -> int | None:
        """Records that are not finished; those finished out of order, beyond the committed offset, do not count."""
        if self.committed is None or self.end is None:
            return None
        return max(0, self.end - self.committed - self.done_beyond)


@dataclass(frozen=True, slots=True)
class Lag:
    """The lag of one group; `why_incomplete` is empty when every partition of the topic is answered for."""

    group: str
    topic: str
    partitions: tuple[PartitionLag, ...]
    why_incomplete: str = ""

    @property
    def total(self) -> int:
        """Sum over the partitions that are known."""
        return sum(item.lag or 0 for item in self.partitions)


@dataclass(frozen=True, slots=True)
class Seeding:
    """What became of one group's first offsets: partition -> offset, for those that had none."""

    group: str
    topic: str
    seeded: Mapping[int, int] = field(default_factory=dict)


class KafkaAdmin:
    """
    Asks and changes what lies in Kafka itself.

    Every method raises BrokerUnavailable, naming the bootstrap servers, when Kafka does not answer in about `timeout`
    seconds, and ConfigurationError when it denies the operation.
    """

    def __init__(self, settings: Settings, timeout: float = TIMEOUT) -> None:
        """Connects when first asked."""
        self._settings = settings
        self._cluster = Cluster(settings.kafka, timeout)

    def ensure_topics(self, services: Iterable[str], *, dry_run: bool = False) -> list[TopicState]:
        """
        Create the topics of `services` that are missing; return all of them with their state.

        Raises ConfigurationError, before anything is created, when one has a wrong number of partitions.
        """
        wanted = self._wanted_topics(services)
        found = self._cluster.partition_counts(wanted)
        for name, topic in wanted.items():
            self._check_partitions(name, found.get(name), topic.num_partitions)
        missing = [topic for name, topic in wanted.items() if name not in found]
        if missing and not dry_run:
            created = self._cluster.create(missing)
            # Somebody else may have been quicker.
            for topic in missing:
                self._check_partitions(topic.topic, created[topic.topic], topic.num_partitions)
        absent: Literal["missing", "created"] = "missing" if dry_run else "created"
        return [
            TopicState(name, found.get(name, topic.num_partitions), "ok" if name in found else absent)
            for name, topic in wanted.items()
        ]

    def topic_plan(self, services: Iterable[str]) -> dict[str, TopicPlan]:
        """Return the topics of `services` by name, as they would be created; Kafka is not asked."""
        return {
            name: TopicPlan(name, topic.num_partitions, topic.replication_factor, dict(topic.config or {}))
            for name, topic in self._wanted_topics(services).items()
        }

    def seed_offsets(self, service: str, start: Start | None = None, *, dry_run: bool = False) -> list[Seeding]:
        """
        Give the live and the shadow group an offset in each partition where they have none; never overwrite one.

        An empty partition gets its end. One that holds records gets `start`; without it this raises ConfigurationError,
        because the records would silently be run again, or skipped. So it does when a group lacks offsets but has
        members. The topics must exist. With `dry_run` nothing is committed.
        """
        plans = [
            self._plan_seeding(group, topic, start)
            for group, topic in (
                (self._settings.group(service), self._settings.topic(service)),
                (self._settings.group(service, "shadow"), self._settings.shadow_topic(service)),
            )
        ]
        if not dry_run:
            for plan in plans:
                if plan.seeded:
                    self._cluster.commit(plan.group, plan.topic, plan.seeded)
        return plans

    def lag(self, service: str, role: Role = "live") -> Lag:
        """Return what the service's group has still to do; what is not known is said, never taken for zero."""
        group = self._settings.group(service, role)
        topic = self._settings.topic(service) if role == "live" else self._settings.shadow_topic(service)
        count = self._cluster.partition_counts([topic]).get(topic)
        if count is None:
            return Lag(group, topic, (), "the topic does not exist")
        ends = self._cluster.offsets(topic, count, "latest")
        committed = self._cluster.committed(group, topic, count)
        rows = []
        for number in range(count):
            stored = committed.get(number)
            offset = stored.offset if stored is not None and stored.offset >= 0 else None
            beyond = 0
            if stored is not None and offset is not None and stored.metadata:
                beyond = sum(stop - first for first, stop in decode_runs(offset, stored.metadata))
            rows.append(PartitionLag(number, offset, ends.get(number), beyond))
        unknown = [str(row.partition) for row in rows if row.lag is None]
        why = f"no committed or end offset for partition {', '.join(unknown)}" if unknown else ""
        return Lag(group, topic, tuple(rows), why)

    def unowned(self, service: str) -> tuple[int, list[int]]:
        """Return how many workers are in a service's live group, and the partitions that none of them owns."""
        topic = self._settings.topic(service)
        count = self._cluster.partition_counts([topic]).get(topic, self._settings.service(service).partitions)
        members = self._cluster.members(self._settings.group(service), topic)
        owned = frozenset[int]().union(*members.values())
        return len(members), sorted(set(range(count)) - owned)

    def depth(self, topic: str) -> int | None:
        """Return how many records a topic holds, or None when it does not exist."""
        count = self._cluster.partition_counts([topic]).get(topic)
        if count is None:
            return None
        first, end = self._cluster.offsets(topic, count, "earliest"), self._cluster.offsets(topic, count, "latest")
        return sum(end[number] - first[number] for number in end if number in first)

    def _wanted_topics(self, services: Iterable[str]) -> dict[str, NewTopic]:
        chosen = [self._settings.service(name) for name in services]
        wanted = {
            name: self._new_topic(name, service.partitions, service)
            for service in chosen
            for name in (
                self._settings.topic(service.name),
                self._settings.shadow_topic(service.name),
                self._settings.dead_letter_topic(service.name),
            )
        }
        observations = self._settings.observations_topic
        # Shared by all services, so it must suit the most demanding one whichever of them comes first.
        longest = max(self._settings.services.values(), key=lambda service: service.retention)
        wanted[observations] = self._new_topic(observations, OBSERVATION_PARTITIONS, longest)
        return wanted

    def _new_topic(self, name: str, partitions: int, service: ServiceSettings) -> NewTopic:
        return NewTopic(
            name,
            num_partitions=partitions,
            replication_factor=service.replication_factor,
            config={
                "cleanup.policy": "delete",
                "retention.ms": str(round(service.retention * 1000)),
                "max.message.bytes": str(max(BROKER_DEFAULT_MAX_BYTES, self._settings.max_message_bytes + HEADROOM)),
            },
        )

    def _check_partitions(self, name: str, found: int | None, wanted: int) -> None:
        if found is None or found == wanted or name == self._settings.observations_topic:
            return
        if found < wanted:
            remedy = (
                f"while the service is quiet, add partitions with "
                f"`kafka-topics.sh --alter --topic {name} --partitions {wanted}`, or set its partitions to {found}"
            )
        else:
            remedy = f"partitions cannot be taken away: set the service's partitions to {found} in TASKBRIDGE"
        raise ConfigurationError(f"topic {name} has {found} partitions where TASKBRIDGE says {wanted}: {remedy}")

    def _plan_seeding(self, group: str, topic: str, start: Start | None) -> Seeding:
        count = self._cluster.partition_counts([topic]).get(topic)
        if count is None:
            raise ConfigurationError(f"topic {topic} does not exist: create it with `taskbridge topics`")
        committed = self._cluster.committed(group, topic, count)
        if silent := [str(number) for number in range(count) if number not in committed]:
            raise ConfigurationError(
                f"Kafka does not say what group {group} has committed in partition {', '.join(silent)} of {topic}: "
                f"grant this user Describe on group and topic"
            )
        first, end = self._cluster.offsets(topic, count, "earliest"), self._cluster.offsets(topic, count, "latest")
        plan: dict[int, int] = {}
        doubtful: list[str] = []
        for number, stored in committed.items():
            if first[number] <= stored.offset <= end[number]:
                continue
            if first[number] == end[number]:
                plan[number] = end[number]
            elif start is not None:
                plan[number] = first[number] if start == "earliest" else end[number]
            else:
                doubtful.append(str(number))
        if doubtful:
            raise ConfigurationError(
                f"group {group} has no valid offset in partition {', '.join(doubtful)} of {topic}, "
                f"which holds records: run `taskbridge topics` with `--start earliest` to have them run, perhaps "
                f"again, or with `--start latest` to skip them"
            )
        return Seeding(group, topic, plan)
