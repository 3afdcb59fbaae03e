"""
The chart's users, applied by the stand-in to a real Kafka: each may do what its workload does, and nothing else.

What a workload does is done by the bridge's own classes, so that a right that they begin to need is missed here.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml
from click.testing import CliRunner
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from charts.render import documents, find, render
from devstack.secure_kafka import SecureKafka
from standin.__main__ import apply, main
from standin.broker import Broker
from standin.errors import StandinError
from standin.resources import Acl, Topic, Wanted, read
from standin.secret import FolderSecrets, decoded, password_of
from taskbridge.adapters.kafka.admin import KafkaAdmin
from taskbridge.adapters.kafka.backlog import Backlog
from taskbridge.adapters.kafka.consumer import KafkaRecordSource
from taskbridge.adapters.kafka.drain import TopicDrain
from taskbridge.adapters.kafka.observations import KafkaObservationLog
from taskbridge.adapters.kafka.preflight import Duty, KafkaPreflight
from taskbridge.adapters.kafka.producer import ConfirmedProducer
from taskbridge.exceptions import PublishError
from taskbridge.record import Record
from taskbridge.settings import Settings

pytestmark = pytest.mark.services

PATIENCE = 20.0
"""Seconds for something that has to happen; a refusal comes at once."""

SERVICES = {"orders": 2, "payments": 2}


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureKafka]:
    server = SecureKafka(tmp_path_factory.mktemp("kafka"), owner=os.getpid(), dispose=False, report=print)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def wanted() -> Wanted:
    chart = find("kafka")
    values = chart.scenario("dev").values
    assert values is not None
    manifests = render(chart, [values], namespace="kafka", settings=["users.namespace=shop"])
    return read(documents(manifests), "kafka")


@pytest.fixture(scope="module")
def broker(kafka: SecureKafka) -> Broker:
    return Broker({"bootstrap.servers": kafka.admin_url})


@pytest.fixture(scope="module")
def secrets(broker: Broker, wanted: Wanted, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the users' Secrets; everything of the chart is applied."""
    folder = tmp_path_factory.mktemp("secrets")
    done = apply(wanted, broker, FolderSecrets(folder), None)
    assert set(done["topics"].values()) == set(done["users"].values()) == {"created"}
    return folder / "shop"


class Clients:
    """What a user needs to be one."""

    def __init__(self, kafka: SecureKafka, secrets: Path) -> None:
        self._kafka = kafka
        self._secrets = secrets

    def settings(self, user: str) -> Settings:
        """Return the project's settings in the environment of a user's workload."""
        services = {name: {"tasks": [f"{name}.*"], "partitions": partitions} for name, partitions in SERVICES.items()}
        return Settings.from_mapping({"prefix": "shop", "services": services}, self.environment(user))

    def environment(self, user: str) -> dict[str, str]:
        secret = yaml.safe_load((self._secrets / f"shop-{user}.yaml").read_text())
        password = {"KAFKA_SASL_USERNAME": f"shop-{user}", "KAFKA_SASL_PASSWORD": decoded(secret)["password"]}
        return {**self._kafka.environment, **password}

    def config(self, user: str, **extra: Any) -> dict[str, Any]:
        """Return librdkafka's properties of a user."""
        own = self.settings(user).kafka.client_config()
        return {**own, "log_level": 0, **{key.replace("_", "."): value for key, value in extra.items()}}


@pytest.fixture(scope="module")
def clients(kafka: SecureKafka, secrets: Path) -> Clients:
    return Clients(kafka, secrets)


def refused_reading(clients: Clients, user: str, topic: str) -> bool:
    """Return whether Kafka refuses to let a user read a topic, without any group."""
    consumer = Consumer(clients.config(user, group_id=f"none-{uuid4().hex}", enable_auto_commit=False))
    try:
        described = consumer.list_topics(topic, timeout=PATIENCE).topics[topic].error
        if described is not None:
            # Who may not even see it is never told more.
            return bool(described.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED)
        consumer.assign([TopicPartition(topic, 0, 0)])
        return _denied(consumer, KafkaError.TOPIC_AUTHORIZATION_FAILED)
    finally:
        consumer.close()


def refused_joining(clients: Clients, user: str, group: str, topic: str) -> bool:
    """Return whether Kafka refuses to let a user join a group."""
    consumer = Consumer(clients.config(user, group_id=group, group_protocol="consumer", enable_auto_commit=False))
    try:
        consumer.subscribe([topic])
        return _denied(consumer, KafkaError.GROUP_AUTHORIZATION_FAILED)
    finally:
        consumer.close()


def _denied(consumer: Consumer, code: int) -> bool:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            message = consumer.poll(0.2)
        except KafkaException as error:
            return bool(error.args[0].code() == code)
        if message is None:
            continue
        error = message.error()
        if error is None:
            return False
        if error.code() == KafkaError._FATAL:
            # So ends a member that found its coordinator, and is refused by it.
            return KafkaError(code).str() in error.str()
        # Without any group's rights its coordinator is refused, too, which is not the question.
        if error.code() in {KafkaError.TOPIC_AUTHORIZATION_FAILED, code}:
            return error.code() == code
    return False


def refused_writing(clients: Clients, user: str, topic: str) -> bool:
    """Return whether Kafka refuses to let a user write to a topic."""
    outcome: list[KafkaError | None] = []
    producer = Producer(clients.config(user))
    producer.produce(topic, b"x", on_delivery=lambda error, _: outcome.append(error))
    producer.flush(PATIENCE)
    assert outcome, f"no answer about {topic}"
    return outcome[0] is not None and outcome[0].code() == KafkaError.TOPIC_AUTHORIZATION_FAILED


def publish(clients: Clients, user: str, topic: str) -> None:
    """Publish as the bridge does; raises PublishError."""
    producer = ConfirmedProducer(clients.settings(user))
    try:
        producer.publish(topic, Record(b"orders", b"[]"))
    finally:
        producer.close()


LIVE, SHADOW, DLQ = "shop.orders", "shop.orders.shadow", "shop.orders.dlq"


@pytest.mark.parametrize("user", ["web", "celery", "relay", "cli", "worker-orders"])
def test_whoever_dispatches_writes_to_every_service(clients: Clients, user: str) -> None:
    for topic in (LIVE, SHADOW, "shop.payments", "shop.observations"):
        publish(clients, user, topic)


@pytest.mark.parametrize(
    ("user", "topic"),
    [
        ("web", DLQ),
        ("celery", DLQ),
        ("relay", DLQ),
        ("worker-orders", "shop.payments.dlq"),
        ("shadow-orders", LIVE),
        ("shadow-orders", "shop.payments.shadow"),
    ],
)
def test_nobody_writes_elsewhere(clients: Clients, user: str, topic: str) -> None:
    assert refused_writing(clients, user, topic)
    with pytest.raises(PublishError):
        publish(clients, user, topic)


@pytest.mark.parametrize(
    ("user", "topic"),
    [
        ("web", LIVE),
        ("web", "shop.observations"),
        ("celery", LIVE),
        ("relay", LIVE),
        ("worker-orders", "shop.payments"),
        ("worker-orders", SHADOW),
        ("worker-orders", "shop.observations"),
        ("shadow-orders", LIVE),
    ],
)
def test_nobody_reads_what_is_not_his(clients: Clients, user: str, topic: str) -> None:
    assert refused_reading(clients, user, topic)


@pytest.mark.parametrize(
    ("user", "group"),
    [("web", LIVE), ("worker-orders", "shop.payments"), ("shadow-orders", LIVE), ("relay", LIVE)],
)
def test_nobody_joins_the_group_of_others(clients: Clients, user: str, group: str) -> None:
    topic = SHADOW if user.startswith("shadow") else LIVE
    assert refused_joining(clients, user, group, topic)


def test_the_questions_above_can_be_answered_with_no(clients: Clients) -> None:
    publish(clients, "web", LIVE)

    assert not refused_writing(clients, "web", LIVE)
    assert not refused_reading(clients, "cli", LIVE)


def consumed(clients: Clients, user: str, topic: str) -> int:
    """Read a topic as the worker does, commit, and return how many records came."""
    settings = clients.settings(user)
    source = KafkaRecordSource(settings.kafka, topic, topic, settings.group_protocol)
    positions: dict[int, tuple[int, str]] = {}
    source.open(lambda _: None, lambda _: None, lambda _: None)
    try:
        deadline = time.monotonic() + PATIENCE
        while not positions and time.monotonic() < deadline:
            for record in source.poll(0.2, 100):
                positions[record.partition] = (record.offset + 1, "")
        source.commit(positions, wait=True)
    finally:
        source.close()
    return len(positions)


def test_topics_and_first_offsets_are_the_command_lines(clients: Clients) -> None:
    admin = KafkaAdmin(clients.settings("cli"))

    assert {topic.state for topic in admin.ensure_topics(SERVICES)} == {"ok"}
    for service in SERVICES:
        admin.seed_offsets(service, "earliest")
        assert admin.lag(service).why_incomplete == ""


def test_workers_read_their_own_service(clients: Clients) -> None:
    admin = KafkaAdmin(clients.settings("cli"))
    for topic in (LIVE, SHADOW):
        publish(clients, "web", topic)
    admin.seed_offsets("orders", "earliest")

    assert consumed(clients, "worker-orders", LIVE)
    assert consumed(clients, "shadow-orders", SHADOW)
    publish(clients, "worker-orders", DLQ)
    publish(clients, "shadow-orders", DLQ)


@pytest.mark.parametrize(
    ("user", "services", "duty"),
    [
        ("web", list(SERVICES), "dispatch"),
        ("celery", list(SERVICES), "dispatch"),
        ("relay", list(SERVICES), "dispatch"),
        ("worker-orders", ["orders"], "worker"),
        ("shadow-orders", ["orders"], "shadow"),
        ("cli", list(SERVICES), "all"),
    ],
)
def test_the_preflight_lets_every_workload_start(clients: Clients, user: str, services: list[str], duty: Duty) -> None:
    admin = KafkaAdmin(clients.settings("cli"))
    for service in SERVICES:
        admin.seed_offsets(service, "earliest")

    lines = list(KafkaPreflight(clients.settings(user), services, duty).lines())

    assert [line for line in lines if line.status == "fail"] == []
    assert any(line.subject.startswith("topic ") for line in lines)


def test_the_preflight_stops_a_workload_with_the_wrong_user(clients: Clients) -> None:
    lines = list(KafkaPreflight(clients.settings("web"), ["orders"], "worker").lines())

    assert [line.subject for line in lines if line.status == "fail"]


def test_the_relay_sees_how_far_workers_are(clients: Clients) -> None:
    backlog = Backlog(clients.settings("relay"))

    ends = backlog.ends("orders")
    assert ends
    assert backlog.unfinished("orders", ends).keys() <= ends.keys()


def test_the_command_line_drains_and_reads_the_evidence(clients: Clients) -> None:
    settings = clients.settings("cli")
    KafkaAdmin(settings).seed_offsets("payments", "earliest")
    publish(clients, "web", "shop.payments")

    delivered: list[Any] = []
    moved = TopicDrain(settings, "payments").run(delivered.append, lambda _: None, PATIENCE)
    publish(clients, "web", "shop.observations")
    log = KafkaObservationLog(settings)
    batches = list(log.read_all(list(SERVICES)))

    assert moved == len(delivered) > 0
    assert batches == []
    assert log.malformed > 0, "what was published is no observation, but it was read"


def test_a_wrong_password_is_refused(clients: Clients) -> None:
    config = clients.config("web", sasl_password="wrong", message_timeout_ms=3000)
    outcome: list[KafkaError | None] = []
    producer = Producer(config)
    producer.produce(LIVE, b"x", on_delivery=lambda error, _: outcome.append(error))
    producer.flush(PATIENCE)

    assert outcome
    assert outcome[0] is not None


def test_applying_again_changes_nothing(broker: Broker, wanted: Wanted, clients: Clients, secrets: Path) -> None:
    before = {file.name: file.read_text() for file in secrets.iterdir()}

    done = apply(wanted, broker, FolderSecrets(secrets.parent), None)

    assert set(done["topics"].values()) == set(done["users"].values()) == {"unchanged"}
    assert {file.name: file.read_text() for file in secrets.iterdir()} == before


def test_what_was_changed_by_hand_is_set_right(broker: Broker, wanted: Wanted, secrets: Path) -> None:
    web = next(user for user in wanted.users if user.name == "shop-web")
    password = password_of(web, FolderSecrets(secrets.parent))
    stranger = Acl("TOPIC", "elsewhere", "LITERAL", "READ")
    broker.apply_user(replace(web, acls=web.acls | {stranger}), password)
    assert stranger in broker.acls("shop-web")

    assert broker.apply_user(web, password) == "changed"
    assert broker.acls("shop-web") == web.acls


def test_topics_grow_and_never_shrink(broker: Broker) -> None:
    name = f"grows-{uuid4().hex[:8]}"
    assert broker.apply_topic(Topic(name, 1, 1, {"retention.ms": "1000"})) == "created"
    assert broker.apply_topic(Topic(name, 3, 1, {"retention.ms": "1000"})) == "changed"
    assert broker.apply_topic(Topic(name, 3, 1, {"retention.ms": "2000"})) == "changed"
    assert broker.apply_topic(Topic(name, 3, 1, {"retention.ms": "2000"})) == "unchanged"
    with pytest.raises(StandinError, match=f"topic {name} has 3 partitions, and 2 are asked for"):
        broker.apply_topic(Topic(name, 2, 1, {}))


def test_the_command_applies_what_is_rendered(kafka: SecureKafka, tmp_path: Path) -> None:
    prefix = f"other{uuid4().hex[:6]}"
    chart = find("kafka")
    values = chart.scenario("outbox").values
    assert values is not None
    settings = ["profile=dev", f"topics.prefix={prefix}", "topics.services[0].name=orders"]
    manifests = render(chart, [values], namespace="kafka", settings=[*settings, "topics.services[0].partitions=1"])
    properties = tmp_path / "admin.properties"
    properties.write_text("client.id = administrator\n")
    options = ["--bootstrap", kafka.admin_url, "--properties", str(properties), "--secrets-dir", str(tmp_path)]

    outcome = CliRunner().invoke(main, ["-", *options, "--json"], input=manifests)

    assert outcome.exit_code == 0, outcome.output
    assert "1 connectors are not applied: give --connect URL." in outcome.stderr
    done = json.loads(outcome.stdout)
    assert done["topics"][f"{prefix}.orders.dlq"] == "created"
    assert done["users"][f"{prefix}-connect"] == "created"
    assert done["connectors"] == {}
    assert (tmp_path / "shop" / f"{prefix}-worker-orders.yaml").is_file()
