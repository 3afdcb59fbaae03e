"""What Strimzi's resources ask for, read from rendered manifests as Strimzi reads them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from standin.errors import StandinError

__all__ = ["API", "Acl", "Connector", "SecretKey", "Topic", "User", "Wanted", "read"]

API = "kafka.strimzi.io/v1"
CLUSTER_LABEL = "strimzi.io/cluster"

OPERATIONS = {
    "Read": "READ",
    "Write": "WRITE",
    "Create": "CREATE",
    "Delete": "DELETE",
    "Alter": "ALTER",
    "Describe": "DESCRIBE",
    "ClusterAction": "CLUSTER_ACTION",
    "AlterConfigs": "ALTER_CONFIGS",
    "DescribeConfigs": "DESCRIBE_CONFIGS",
    "IdempotentWrite": "IDEMPOTENT_WRITE",
    "All": "ALL",
}
"""Strimzi's word -> Kafka's."""

RESOURCES = {"topic": "TOPIC", "group": "GROUP", "cluster": "BROKER", "transactionalId": "TRANSACTIONAL_ID"}
"""Strimzi's word -> the client's, which calls the cluster a broker."""

PATTERNS = {"literal": "LITERAL", "prefix": "PREFIXED"}


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic; `partitions` and `replicas` are -1 where the brokers decide."""

    name: str
    partitions: int
    replicas: int
    config: Mapping[str, str]


@dataclass(frozen=True, slots=True, order=True)
class Acl:
    """One right, in the words of the Kafka client."""

    resource: str
    name: str
    pattern: str
    operation: str
    permission: str = "ALLOW"
    host: str = "*"


@dataclass(frozen=True, slots=True)
class SecretKey:
    """Where a password stands that somebody else chose."""

    secret: str
    key: str


@dataclass(frozen=True, slots=True)
class User:
    """A user that logs in with a password; its name is that of its Secret, too."""

    name: str
    namespace: str
    cluster: str
    acls: frozenset[Acl]
    password: SecretKey | None = None


@dataclass(frozen=True, slots=True)
class Connector:
    """A connector and its whole configuration, as Connect's REST interface takes it."""

    name: str
    config: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Everything that the manifests ask for; `ignored` says, in a sentence each, what is not done."""

    topics: tuple[Topic, ...]
    users: tuple[User, ...]
    connectors: tuple[Connector, ...]
    ignored: tuple[str, ...] = ()


def read(documents: Iterable[Mapping[str, Any]], namespace: str = "default") -> Wanted:
    """
    Return what KafkaTopics, KafkaUsers and KafkaConnectors ask for; `namespace` is that of resources that name none.

    Raises StandinError for what Strimzi would refuse or pass over in silence.
    """
    topics: list[Topic] = []
    users: list[User] = []
    connectors: list[Connector] = []
    ignored: list[str] = []
    for document in documents:
        kind = str(document.get("kind", ""))
        if kind not in {"KafkaTopic", "KafkaUser", "KafkaConnector"}:
            continue
        place = f"{kind} {document['metadata']['name']}"
        if document.get("apiVersion") != API:
            raise StandinError(f"{place} is of {document.get('apiVersion')}: Strimzi from 1.0 on knows {API} only.")
        if CLUSTER_LABEL not in document["metadata"].get("labels", {}):
            raise StandinError(f"{place} has no label {CLUSTER_LABEL}, so that no operator of Strimzi looks at it.")
        if kind == "KafkaTopic":
            topics.append(_topic(document))
        elif kind == "KafkaUser":
            users.append(_user(document, place, namespace))
            if document["spec"].get("quotas"):
                ignored.append(f"{place}: quotas are not applied, the Kafka client cannot set them.")
        else:
            connectors.append(_connector(document))
    return Wanted(tuple(topics), tuple(users), tuple(connectors), tuple(ignored))


def _topic(document: Mapping[str, Any]) -> Topic:
    spec = document["spec"]
    return Topic(
        name=spec.get("topicName", document["metadata"]["name"]),
        partitions=spec.get("partitions", -1),
        replicas=spec.get("replicas", -1),
        config={key: text(value) for key, value in spec.get("config", {}).items()},
    )


def _user(document: Mapping[str, Any], place: str, namespace: str) -> User:
    metadata, spec = document["metadata"], document["spec"]
    authentication = spec.get("authentication", {})
    if authentication.get("type") != "scram-sha-512":
        raise StandinError(f"{place} logs in by {authentication.get('type')}: only scram-sha-512 is supported here.")
    reference = authentication.get("password", {}).get("valueFrom", {}).get("secretKeyRef")
    authorization = spec.get("authorization", {"type": "simple", "acls": []})
    return User(
        name=metadata["name"],
        namespace=metadata.get("namespace", namespace),
        cluster=metadata["labels"][CLUSTER_LABEL],
        acls=frozenset(acl for rule in authorization["acls"] for acl in _acls(rule, place)),
        password=SecretKey(reference["name"], reference["key"]) if reference else None,
    )


def _acls(rule: Mapping[str, Any], place: str) -> Iterable[Acl]:
    resource = rule["resource"]
    kind, pattern = resource["type"], resource.get("patternType", "literal")
    if kind not in RESOURCES or pattern not in PATTERNS:
        raise StandinError(f"{place} has a rule for {kind!r}, {pattern!r}: Strimzi knows neither such a resource.")
    for operation in rule["operations"]:
        if operation not in OPERATIONS:
            raise StandinError(f"{place} has a rule with the operation {operation!r}, which Strimzi does not know.")
        yield Acl(
            resource=RESOURCES[kind],
            name="kafka-cluster" if kind == "cluster" else resource["name"],
            pattern=PATTERNS[pattern],
            operation=OPERATIONS[operation],
            permission=rule.get("type", "allow").upper(),
            host=rule.get("host", "*"),
        )


def _connector(document: Mapping[str, Any]) -> Connector:
    spec = document["spec"]
    config = {"connector.class": spec["class"], "tasks.max": text(spec.get("tasksMax", 1))}
    return Connector(
        name=document["metadata"]["name"],
        config={key: text(value) for key, value in spec.get("config", {}).items()} | config,
    )


def text(value: object) -> str:
    """Return a value of YAML as Java reads it in a properties file."""
    return str(value).lower() if isinstance(value, bool) else str(value)
