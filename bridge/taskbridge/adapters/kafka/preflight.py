"""What Kafka must offer before a process of the bridge starts; nothing is created or changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from confluent_kafka import KafkaError, KafkaException, TopicCollection, libversion, version
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # re-exports
    AclOperation,
    AdminClient,
    ConfigResource,
    ResourceType,
)

from taskbridge.adapters.kafka.admin import KafkaAdmin
from taskbridge.checks import Line, Status, fail, listed, ok, warn
from taskbridge.exceptions import TaskbridgeError
from taskbridge.settings import Settings

Duty = Literal["all", "dispatch", "worker", "shadow"]
"""What the process will do, and so which rights it needs."""

ATTEMPT = 5.0
"""Seconds for one question."""

_DENIED = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
}
_ABSENT = {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.GROUP_ID_NOT_FOUND}


@dataclass(frozen=True, slots=True)
class _Needs:
    """Rights on topics and groups, by name."""

    topics: Mapping[str, frozenset[str]]
    groups: frozenset[str]


class KafkaPreflight:
    """Looks at one cluster with the eyes of the process that is about to start."""

    def __init__(self, settings: Settings, services: Sequence[str], duty: Duty = "all") -> None:
        self._settings = settings
        self._services = services
        self._duty = duty
        self._client: AdminClient | None = None

    def lines(self) -> Iterator[Line]:
        """Yield what was found; when no server can be reached, that alone."""
        yield ok("Kafka client", f"confluent-kafka {version()}, librdkafka {libversion()[0]}")
        # Every one by itself: a client is content with the first that answers.
        reached = [self._server(server.strip()) for server in self._settings.kafka.bootstrap_servers.split(",")]
        if all(line.status is not Status.OK for line in reached):
            yield from reached
            return
        # One that answers leads to all the others.
        yield from (replace(line, status=Status.WARN) if line.status is Status.FAIL else line for line in reached)
        try:
            yield from self._brokers()
            topics = self._topics()
            yield from topics
            yield from self._groups()
            if not any(line.status == "fail" for line in topics):
                yield from self._offsets()
        except KafkaException as error:
            yield fail(
                "Kafka", f"it stopped answering: {error.args[0].str()}", "see that the brokers run, and test again"
            )

    def _admin(self) -> AdminClient:
        if self._client is None:
            # What goes wrong is told by the question that it concerns.
            self._client = self._made({}, lambda _: None)
        return self._client

    def _made(self, config: dict[str, Any], on_error: Callable[[KafkaError], None]) -> AdminClient:
        quiet: dict[str, Any] = {"log_level": 0, "error_cb": on_error}
        return AdminClient({**self._settings.kafka.client_config(), **quiet, **config})

    def _server(self, server: str) -> Line:
        subject = f"Kafka at {server}"
        reasons: list[str] = []
        try:
            client = self._made({"bootstrap.servers": server}, lambda error: reasons.append(error.str()))
        except KafkaException as error:
            return fail(subject, f"the settings are refused: {error.args[0].str()}", "mend the KAFKA_* variables")
        try:
            found = client.describe_cluster(request_timeout=ATTEMPT).result()
        except KafkaException as error:
            client.poll(0)
            why = reasons[0] if reasons else error.args[0].str()
            return fail(subject, f"does not answer: {why}", _way_in(why))
        return ok(subject, f"cluster {found.cluster_id}, brokers {listed(sorted(node.id for node in found.nodes))}")

    def _brokers(self) -> Iterator[Line]:
        node = self._admin().describe_cluster(request_timeout=ATTEMPT).result().nodes[0]
        config = self._config(ResourceType.BROKER, str(node.id))
        if config is None:
            yield warn(
                "broker settings",
                "this user may not see them, so that offset retention and group protocol are not known",
                "grant it DescribeConfigs on the cluster, or compare them yourself",
            )
            return
        protocols = config.get("group.coordinator.rebalance.protocols", "classic").replace(" ", "").split(",")
        wanted = self._settings.group_protocol
        if wanted in protocols:
            yield ok("group protocol", f"the brokers offer {wanted}")
        else:
            yield fail(
                "group protocol",
                f"the brokers offer {listed(protocols)}, and TASKBRIDGE asks for {wanted}",
                'set TASKBRIDGE["group_protocol"] to "classic", or upgrade the brokers to 4.0',
            )
        kept = float(config.get("offsets.retention.minutes", "10080")) * 60
        longest = max(self._settings.services[name].retention for name in self._services)
        if kept > longest:
            yield ok("offset retention", f"{_days(kept)}, longer than records are kept ({_days(longest)})")
        else:
            yield warn(
                "offset retention",
                f"{_days(kept)}, and records are kept for {_days(longest)}: a group that stands still loses its place",
                f"set the brokers' offsets.retention.minutes above {longest / 60:.0f}, or keep records for less long",
            )

    def _topics(self) -> list[Line]:
        needs = self._needs().topics
        # Never `list_topics`: asking by that for a topic may create it.
        outcomes = self._admin().describe_topics(
            TopicCollection(list(needs)), include_authorized_operations=True, request_timeout=ATTEMPT
        )
        lines: list[Line] = []
        for name, future in outcomes.items():
            subject = f"topic {name}"
            try:
                found = future.result()
            except KafkaException as error:
                lines.append(self._refused(subject, error, "create it with `taskbridge topics`"))
                continue
            lines.append(self._rights(subject, found.authorized_operations, needs[name]))
            lines.extend(self._shape(subject, name, found))
        return lines

    def _shape(self, subject: str, name: str, found: Any) -> Iterator[Line]:
        wanted = KafkaAdmin(self._settings).topic_plan(self._services)[name]
        if len(found.partitions) != wanted.partitions and name != self._settings.observations_topic:
            yield fail(
                subject,
                f"{len(found.partitions)} partitions where TASKBRIDGE says {wanted.partitions}",
                "adapt the setting or, while the service is quiet, the topic",
            )
        config = self._config(ResourceType.TOPIC, name)
        if config is None:
            yield warn(
                subject, "this user may not see its settings", "grant it DescribeConfigs, or compare them yourself"
            )
            return
        for key, value in wanted.config.items():
            if config.get(key) != value:
                yield _unlike(subject, key, config.get(key), value)
        replicas = min((len(item.replicas) for item in found.partitions), default=0)
        in_sync = int(config.get("min.insync.replicas", "1"))
        if replicas < 2:
            yield warn(subject, "one replica: a broker that is lost takes its records along", "give it three replicas")
        elif in_sync >= replicas:
            yield warn(
                subject,
                f"{replicas} replicas and min.insync.replicas={in_sync}: no record is taken while one broker is away",
                f"set min.insync.replicas to {replicas - 1}",
            )
        without = [item.id for item in found.partitions if item.leader is None]
        if without:
            yield fail(subject, f"partition {listed(without)} has no leader", "see that the brokers run")

    def _groups(self) -> Iterator[Line]:
        groups = sorted(self._needs().groups)
        if not groups:
            return
        outcomes = self._admin().describe_consumer_groups(
            groups, include_authorized_operations=True, request_timeout=ATTEMPT
        )
        for name, future in outcomes.items():
            subject = f"group {name}"
            try:
                operations = future.result().authorized_operations
            except KafkaException as error:
                if error.args[0].code() in _ABSENT:
                    yield ok(subject, "nobody has joined it yet")
                else:
                    yield self._refused(subject, error, "grant this user Describe and Read on it")
                continue
            yield self._rights(subject, operations, frozenset({"READ"}))

    def _offsets(self) -> Iterator[Line]:
        admin = KafkaAdmin(self._settings, timeout=ATTEMPT)
        for service in self._services:
            for role in ("live", "shadow"):
                group = self._settings.group(service, role)
                if group not in self._needs().groups:
                    continue
                try:
                    why = admin.lag(service, "live" if role == "live" else "shadow").why_incomplete
                except TaskbridgeError as error:
                    yield fail(f"offsets of {group}", str(error), "grant this user Describe on group and topic")
                    continue
                if why:
                    remedy = f"`taskbridge topics {service}` gives it first offsets; workers never guess where to begin"
                    yield fail(f"offsets of {group}", why, remedy)
                else:
                    yield ok(f"offsets of {group}", "every partition has one")

    def _needs(self) -> _Needs:
        settings, duty = self._settings, self._duty
        topics: dict[str, set[str]] = {settings.observations_topic: {"WRITE"}}
        groups: set[str] = set()
        for service in self._services:
            live, shadow = settings.topic(service), settings.shadow_topic(service)
            if duty in {"all", "dispatch", "worker"}:
                topics.setdefault(live, set()).add("WRITE")
                topics.setdefault(shadow, set()).add("WRITE")
            if duty in {"all", "worker"}:
                topics[live].add("READ")
                topics.setdefault(settings.dead_letter_topic(service), set()).add("WRITE")
                groups.add(settings.group(service))
            if duty in {"all", "shadow"}:
                topics.setdefault(shadow, set()).add("READ")
                groups.add(settings.group(service, "shadow"))
        return _Needs({name: frozenset(rights) for name, rights in topics.items()}, frozenset(groups))

    def _rights(self, subject: str, operations: Iterable[Any] | None, needed: frozenset[str]) -> Line:
        if operations is None:
            return warn(subject, "the brokers do not say what this user may do", f"see that it may {_words(needed)}")
        missing = needed - {item.name for item in operations if isinstance(item, AclOperation)}
        if missing:
            return fail(subject, f"it is there, but this user may not {_words(missing)}", f"grant it {_words(missing)}")
        return ok(subject, f"this user may {_words(needed)}")

    def _refused(self, subject: str, error: KafkaException, remedy: str) -> Line:
        reason = error.args[0]
        if reason.code() in _ABSENT:
            return fail(subject, "it does not exist", remedy)
        if reason.code() in _DENIED:
            return fail(subject, "access is denied, so that it cannot even be seen", "grant this user Describe on it")
        return fail(subject, reason.str(), "see that the brokers run, and test again")

    def _config(self, kind: Any, name: str) -> dict[str, str] | None:
        """Return the settings of a broker or topic, or None when this user may not see them."""
        resource = ConfigResource(kind, name)
        (future,) = self._admin().describe_configs([resource], request_timeout=ATTEMPT).values()
        try:
            found = future.result()
        except KafkaException as error:
            if error.args[0].code() in _DENIED:
                return None
            raise
        return {key: entry.value for key, entry in found.items() if entry.value is not None}


def _way_in(why: str) -> str:
    if "uthentication" in why or "SASL" in why:
        return "check KAFKA_SASL_USERNAME, KAFKA_SASL_PASSWORD and KAFKA_SASL_MECHANISMS"
    if "SSL" in why or "certificate" in why:
        return "check KAFKA_SECURITY_PROTOCOL and the KAFKA_SSL_* variables"
    return "check KAFKA_BOOTSTRAP_SERVERS and that the broker runs"


def _unlike(subject: str, key: str, found: str | None, wanted: str) -> Line:
    remedy = f"set it with `kafka-configs.sh --alter`, or adapt TASKBRIDGE: {key}={wanted}"
    if key == "max.message.bytes" and found is not None and int(found) < int(wanted):
        return fail(subject, f"{key}={found}, and TASKBRIDGE allows larger records", remedy)
    if key == "cleanup.policy" and found is not None and "compact" in found:
        return fail(subject, f"{key}={found}: records with a key that comes again would be deleted", remedy)
    return warn(subject, f"{key}={found}, where TASKBRIDGE means {wanted}", remedy)


def _words(rights: Iterable[str]) -> str:
    return " and ".join(right.capitalize() for right in sorted(rights))


def _days(seconds: float) -> str:
    return f"{seconds / 86_400:g} days" if seconds >= 86_400 else f"{seconds / 3_600:g} hours"
