"""
The chart's connector on a real Connect: Debezium publishes the outbox as the relay would, with the rights of its user.

What the chart renders is used as it stands, apart from where the database's password is mounted.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from uuid import uuid4

import psycopg2
import pytest
import yaml
from confluent_kafka import Consumer, TopicPartition
from psycopg2.extras import execute_values

from charts.render import documents, find, render
from devstack.connect import Connect
from devstack.databases import fresh_database
from devstack.postgres import binaries
from devstack.secure_kafka import SecureKafka
from images.jars import fetch
from standin.__main__ import apply
from standin.broker import Broker
from standin.resources import Connector, read
from standin.secret import FolderSecrets, decoded
from taskbridge.adapters.kafka.producer import ConfirmedProducer
from taskbridge.contrib.django.store import shard
from taskbridge.ports import PendingMessage
from taskbridge.record import Message, Stamp, decode, encode
from taskbridge.settings import Settings

pytestmark = pytest.mark.services

ROOT = Path(__file__).resolve().parents[2]
MOUNT = "/mnt/outbox-database"
TOPIC = "shop.orders"
PATIENCE = 60.0
"""Seconds for a row to come out of the database's log: Connect may have to start a task first."""


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureKafka]:
    server = SecureKafka(tmp_path_factory.mktemp("kafka"), owner=os.getpid(), dispose=False, report=print)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@dataclass(frozen=True)
class Scene:
    """Everything that is there: the outbox in a database, Kafka, and between them a connector that runs."""

    database: str
    slot: str
    kafka: SecureKafka
    connect: Connect


@pytest.fixture(scope="module")
def scene(kafka: SecureKafka, database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("outbox")
    slot = f"outbox_{uuid4().hex[:8]}"
    with fresh_database(database_url) as url:
        migrate(url)
        manifests = rendered(url, slot)
        by_kind = {item["kind"]: item for item in manifests if item["kind"] not in {"ConfigMap", "KafkaTopic"}}
        sql = next(item["data"] for item in manifests if "enable.sql" in item.get("data", {}))
        psql(url, sql["enable.sql"])
        psql(url, sql["enable.sql"])
        mount = folder / "mount"
        mount.mkdir()
        place = urlsplit(url)
        (mount / "username").write_text(unquote(place.username or ""))
        (mount / "password").write_text(unquote(place.password or ""))
        wanted = read(manifests, "kafka")
        broker, store = Broker({"bootstrap.servers": kafka.admin_url}), FolderSecrets(folder / "secrets")
        apply(replace(wanted, connectors=()), broker, store, None)
        worker = Connect(
            folder / "connect",
            owner=os.getpid(),
            dispose=False,
            report=print,
            properties=worker_properties(by_kind["KafkaConnect"], kafka, folder / "secrets", mount),
            libraries=fetch(ROOT / "images" / "kafka" / "pom.xml", print),
            plugins=plugin_path(folder),
        )
        worker.start()
        try:
            connectors = tuple(mounted(connector, mount) for connector in wanted.connectors)
            apply(replace(wanted, topics=(), users=(), connectors=connectors), broker, store, worker.url)
            yield Scene(url, slot, kafka, worker)
        finally:
            worker.stop()
            # A database with a slot cannot be dropped.
            psql(url, f"SELECT pg_drop_replication_slot('{slot}')")


def migrate(url: str) -> None:
    """Make the bridge's tables, with the shop's settings."""
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join(str(ROOT / folder) for folder in ("apps", "bridge")),
        "DJANGO_SETTINGS_MODULE": "shop.config.settings",
        "DJANGO_DEBUG": "1",
        "DATABASE_URL": url,
        "REDIS_URL": "redis://localhost:1",
        "KAFKA_BOOTSTRAP_SERVERS": "localhost:1",
    }
    command = [sys.executable, "-m", "django", "migrate", "taskbridge", "--verbosity", "0"]
    subprocess.run(command, env=environment, cwd=ROOT, check=True)


def rendered(url: str, slot: str) -> list[dict[str, Any]]:
    chart = find("kafka")
    values = chart.scenario("outbox").values
    assert values is not None
    place = urlsplit(url)
    settings = [
        "profile=dev",
        "listener.tls=false",
        f"connect.outbox.database.host={place.hostname}",
        f"connect.outbox.database.port={place.port}",
        f"connect.outbox.database.name={place.path[1:]}",
        "connect.outbox.database.sslmode=disable",
        f"connect.outbox.name={slot}",
        "connect.outbox.heartbeatMs=1000",
    ]
    return list(documents(render(chart, [values], namespace="kafka", settings=settings)))


def worker_properties(resource: dict[str, Any], kafka: SecureKafka, secrets: Path, mount: Path) -> dict[str, str]:
    """Return what Strimzi would make of a KafkaConnect, for this Kafka and with the password mounted elsewhere."""
    spec = resource["spec"]
    login = spec["authentication"]
    file = secrets / "shop" / f"{login['passwordSecret']['secretName']}.yaml"
    security = {
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": login["type"].upper(),
        "sasl.jaas.config": decoded(yaml.safe_load(file.read_text()))["sasl.jaas.config"],
    }
    prefixes = ("", "producer.", "consumer.", "admin.")
    return {
        "bootstrap.servers": kafka.url,
        "group.id": spec["groupId"],
        "config.storage.topic": spec["configStorageTopic"],
        "offset.storage.topic": spec["offsetStorageTopic"],
        "status.storage.topic": spec["statusStorageTopic"],
        "key.converter": "org.apache.kafka.connect.json.JsonConverter",
        "value.converter": "org.apache.kafka.connect.json.JsonConverter",
        "offset.flush.interval.ms": "1000",
        **{key: str(value).replace(MOUNT, str(mount)) for key, value in spec["config"].items()},
        **{f"{prefix}{key}": value for prefix in prefixes for key, value in security.items()},
    }


def plugin_path(folder: Path) -> Path:
    """Return a folder that holds Debezium as one plugin."""
    plugins = folder / "plugins"
    plugins.mkdir()
    (plugins / "debezium").symlink_to(fetch(ROOT / "images" / "kafka" / "plugins.xml", print))
    return plugins


def mounted(connector: Connector, mount: Path) -> Connector:
    return replace(connector, config={key: value.replace(MOUNT, str(mount)) for key, value in connector.config.items()})


def psql(url: str, script: str) -> None:
    command = [str(binaries() / "psql"), "--quiet", "--no-psqlrc", "--set", "ON_ERROR_STOP=1", url]
    subprocess.run(command, input=script, text=True, check=True, stdout=subprocess.DEVNULL)


def pending(number: int = 0, **changed: Any) -> PendingMessage:
    """Return a message whose every part is something that a careless converter would change."""
    task_id = str(uuid4())
    message = Message(
        task="shop.orders.tasks.confirm",
        task_id=task_id,
        body=b'[[1, "\xc3\xa9"], {}, {"callbacks": null}]',
        content_type="application/json",
        content_encoding="utf-8",
        headers=b'{"id": "%s", "retries": 0, "name": "\xc3\xa9 \\" \\\\ , :"}' % task_id.encode(),
        properties=b'{"delivery_info": {"exchange": "", "routing_key": "orders"}}',
    )
    one = PendingMessage("orders", f"order-\u00e9-{number}", message, datetime.now(UTC), 7, "host:1:ab", 12_345_678_901)
    return replace(one, **changed)


def insert(url: str, *messages: PendingMessage, commit: bool = True) -> None:
    """Put messages aside as `publish=outbox` does, by one statement."""
    statement = (
        "INSERT INTO taskbridge_outbox (service, key, shard, task, task_id, body, content_type, content_encoding,"
        " headers, properties, epoch, producer, seq, attempts, road, created_at) VALUES %s"
    )
    rows = [
        (
            *(
                one.service,
                one.key,
                shard(one.service, one.key),
                one.message.task,
                one.message.task_id,
                one.message.body,
            ),
            *(one.message.content_type, one.message.content_encoding, one.message.headers, one.message.properties),
            *(one.epoch, one.producer, one.seq, one.attempts, one.road, one.due),
        )
        for one in messages
    ]
    connection = psycopg2.connect(url)
    try:
        with connection.cursor() as cursor:
            execute_values(cursor, statement, rows, page_size=len(rows))
        if commit:
            connection.commit()
    finally:
        connection.close()


def left(url: str) -> set[str]:
    """Return the ids of the tasks that are in the table."""
    connection = psycopg2.connect(url)
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT task_id FROM taskbridge_outbox")
            return {row[0] for row in cursor.fetchall()}
    finally:
        connection.close()


class Published:
    """What is in the topic, by task id."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self.records: dict[str, list[Any]] = {}

    def wait_for(self, ids: Collection[str]) -> None:
        """Read the topic from its beginning until these were seen; fail after a while."""
        consumer = Consumer({"bootstrap.servers": self._bootstrap, "group.id": uuid4().hex, "log_level": 0})
        self.records = {}
        try:
            count = len(consumer.list_topics(TOPIC, timeout=PATIENCE).topics[TOPIC].partitions)
            consumer.assign([TopicPartition(TOPIC, number, 0) for number in range(count)])
            deadline = time.monotonic() + PATIENCE
            while not set(ids) <= self.records.keys():
                assert time.monotonic() < deadline, f"{len(set(ids) - self.records.keys())} of {len(ids)} did not come"
                for message in consumer.consume(500, 0.5):
                    assert message.error() is None
                    self.records.setdefault(dict(message.headers())["id"].decode(), []).append(message)
        finally:
            consumer.close()


@pytest.fixture
def published(scene: Scene) -> Published:
    return Published(scene.kafka.admin_url)


def test_a_row_becomes_the_record_that_the_relay_would_send(scene: Scene, published: Published) -> None:
    message = pending()
    insert(scene.database, message)

    published.wait_for([message.message.task_id])

    (found,) = published.records[message.message.task_id]
    expected = encode(message.message, message.key, Stamp("kafka", message.epoch, message.producer, message.seq))
    assert (found.key(), found.value()) == (expected.key, expected.value)
    assert dict(found.headers()) == dict(expected.headers)
    read_back, _ = decode(found.value(), found.headers())
    assert read_back == message.message
    assert left(scene.database) == set()


def test_a_key_is_in_the_partition_where_the_bridge_puts_it(scene: Scene, published: Published) -> None:
    messages = [pending(number) for number in range(20)]
    insert(scene.database, *messages)
    mapping = {"prefix": "shop", "services": {"orders": {"tasks": ["x"]}}}
    producer = ConfirmedProducer(Settings.from_mapping(mapping, {"KAFKA_BOOTSTRAP_SERVERS": scene.kafka.admin_url}))
    ids = [message.message.task_id for message in messages]
    twins = [replace(message.message, task_id=f"twin-{message.message.task_id}") for message in messages]
    for twin, message in zip(twins, messages, strict=True):
        producer.publish(TOPIC, encode(twin, message.key, Stamp("kafka", 1, "", 0)))
    producer.close()

    published.wait_for([*ids, *(twin.task_id for twin in twins)])

    for task_id in ids:
        (debezium,), (bridge,) = published.records[task_id], published.records[f"twin-{task_id}"]
        assert debezium.key() == bridge.key()
        assert debezium.partition() == bridge.partition()


def test_what_is_not_debeziums_stays_for_the_relay(scene: Scene, published: Published) -> None:
    doubtful, undecided, held = pending(attempts=1), pending(road="any"), pending(road="held")
    after = pending()
    rolled_back = pending()
    insert(scene.database, rolled_back, commit=False)
    insert(scene.database, doubtful, undecided, held)
    insert(scene.database, after)

    # In the database's log it comes after the others, so they would have come before it.
    published.wait_for([after.message.task_id])

    others = {one.message.task_id for one in (doubtful, undecided, held)}
    assert left(scene.database) == others
    assert not others & published.records.keys()
    assert rolled_back.message.task_id not in published.records
    psql(scene.database, "DELETE FROM taskbridge_outbox")


def test_an_insert_of_many_rows_survives_a_crash_of_connect(scene: Scene, published: Published) -> None:
    """Rows of one statement share a position in the log; before Debezium 3.7 a restart among them lost the rest."""
    messages = [pending(number) for number in range(500)]
    insert(scene.database, *messages)
    published.wait_for([messages[0].message.task_id])

    scene.connect.kill()
    scene.connect.start()

    published.wait_for([message.message.task_id for message in messages])
    assert left(scene.database) == set()


def test_the_outbox_goes_back_to_the_relay(scene: Scene) -> None:
    sql = next(item["data"] for item in rendered(scene.database, scene.slot) if "enable.sql" in item.get("data", {}))
    psql(scene.database, sql["disable.sql"])
    message = pending()
    insert(scene.database, message)

    assert message.message.task_id in left(scene.database)
