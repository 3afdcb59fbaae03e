"""
The chart's connector on a real Connect: Debezium publishes the outbox as the relay would, with the rights of its users.

What the chart renders is used as it stands, apart from where the database's password is mounted.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import Request, urlopen
from uuid import uuid4

import psycopg2
import pytest
import yaml
from confluent_kafka import Consumer, TopicPartition
from psycopg2.extras import execute_values, wait_select

from charts.render import documents, find, render
from devstack.connect import Connect
from devstack.databases import fresh_database
from devstack.postgres import Postgres, binaries
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
INSERT = (
    "INSERT INTO taskbridge_outbox (service, key, shard, task, task_id, body, content_type, content_encoding,"
    " headers, properties, epoch, producer, seq, attempts, road, created_at) VALUES %s"
)
OTHER_SLOT = f"outbox_{uuid4().hex[:8]}"
"""A slot that no connector reads, nor makes anew."""

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
        enable = scripts(url, slot)["enable.sql"]
        psql(url, enable)
        psql(url, enable)
        mount = folder / "mount"
        mount.mkdir()
        psql(url, f"CREATE ROLE {slot} LOGIN REPLICATION PASSWORD '{slot}'")
        (mount / "username").write_text(slot)
        (mount / "password").write_text(slot)
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
            psql(url, f"SELECT pg_drop_replication_slot('{slot}'); DROP ROLE {slot}")


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


def scripts(url: str, slot: str) -> dict[str, str]:
    """Return the scripts that tell a database, by the names of their files."""
    return next(item["data"] for item in rendered(url, slot) if "enable.sql" in item.get("data", {}))


@pytest.fixture
def apart(database_url: str) -> Iterator[str]:
    """A database with the bridge's tables, for slots that no connector reads."""
    with fresh_database(database_url) as url:
        migrate(url)
        try:
            yield url
        finally:
            drop = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = '{}'"
            psql(url, drop.format(OTHER_SLOT))


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


def row_of(one: PendingMessage) -> tuple[Any, ...]:
    """Return what `INSERT` takes of a message."""
    message = one.message
    return (
        *(one.service, one.key, shard(one.service, one.key), message.task, message.task_id, message.body),
        *(message.content_type, message.content_encoding, message.headers, message.properties),
        *(one.epoch, one.producer, one.seq, one.attempts, one.road, one.due),
    )


def insert(url: str, *messages: PendingMessage, commit: bool = True) -> None:
    """Put messages aside as `publish=outbox` does, by one statement."""
    connection = psycopg2.connect(url)
    try:
        with connection.cursor() as cursor:
            execute_values(cursor, INSERT, [row_of(one) for one in messages], page_size=len(messages))
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


def test_without_a_slot_the_outbox_is_the_relays(apart: str) -> None:
    """After a restore the trigger is there and the slot is not: nobody would read what is kept out of the outbox."""
    before, after = pending(), pending()
    psql(apart, scripts(apart, OTHER_SLOT)["enable.sql"])
    insert(apart, before)
    assert left(apart) == set()

    psql(apart, f"SELECT pg_drop_replication_slot('{OTHER_SLOT}')")
    insert(apart, after)
    assert left(apart) == {after.message.task_id}

    psql(apart, scripts(apart, OTHER_SLOT)["enable.sql"])
    insert(apart, pending())
    assert left(apart) == {after.message.task_id}


def test_a_slot_of_another_database_does_not_count(database_url: str, apart: str) -> None:
    psql(apart, scripts(apart, OTHER_SLOT)["enable.sql"])
    psql(apart, f"SELECT pg_drop_replication_slot('{OTHER_SLOT}')")
    psql(database_url, f"SELECT pg_create_logical_replication_slot('{OTHER_SLOT}', 'pgoutput')")
    message = pending()
    insert(apart, message)

    assert left(apart) == {message.message.task_id}
    with pytest.raises(subprocess.CalledProcessError):
        psql(apart, scripts(apart, OTHER_SLOT)["enable.sql"])


def test_a_slot_that_is_not_yet_consistent_does_not_count(apart: str) -> None:
    """What a transaction writes that began before the slot was ready never comes out of the log."""
    psql(apart, scripts(apart, OTHER_SLOT)["enable.sql"])
    psql(apart, f"SELECT pg_drop_replication_slot('{OTHER_SLOT}')")
    early = pending()
    writing, making = psycopg2.connect(apart), psycopg2.connect(apart, async_=True)
    try:
        with writing.cursor() as cursor:
            cursor.execute("SELECT pg_current_xact_id()")
            wait_select(making)
            creating = making.cursor()
            creating.execute(f"SELECT pg_create_logical_replication_slot('{OTHER_SLOT}', 'pgoutput')")
            deadline = time.monotonic() + PATIENCE
            slots = 0
            while not slots:
                assert time.monotonic() < deadline, "the slot is not being made"
                cursor.execute("SELECT count(*) FROM pg_replication_slots WHERE slot_name = %s", [OTHER_SLOT])
                (slots,) = cursor.fetchone() or (0,)
            execute_values(cursor, INSERT, [row_of(early)])
        writing.commit()
        wait_select(making)
    finally:
        writing.close()
        making.close()
    late = pending()
    insert(apart, late)

    assert left(apart) == {early.message.task_id}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Postgres]:
    """A server for one test, with the bridge's tables."""
    postgres = Postgres(tmp_path / "postgres", owner=os.getpid(), dispose=False, report=print)
    postgres.start()
    try:
        migrate(postgres.url)
        yield postgres
    finally:
        postgres.stop()


def test_the_slot_of_a_server_that_took_over_does_not_count(server: Postgres) -> None:
    """Connect remembers how far it had read in the log before, which this one may not have reached yet."""
    enable = scripts(server.url, OTHER_SLOT)["enable.sql"]
    psql(server.url, enable)
    server.stop()
    (server.directory / "data" / "standby.signal").touch()
    server.start()
    psql(server.url, "SELECT pg_promote()")
    message = pending()
    insert(server.url, message)
    assert left(server.url) == {message.message.task_id}

    psql(server.url, enable)
    insert(server.url, pending())
    assert left(server.url) == {message.message.task_id}


def test_a_slot_whose_log_is_gone_does_not_count_and_is_made_anew(server: Postgres) -> None:
    small_log = server.url
    psql(small_log, "ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'")
    psql(small_log, "SELECT pg_reload_conf()")
    enable = scripts(small_log, OTHER_SLOT)["enable.sql"]
    psql(small_log, enable)
    lost = "SELECT 1 / count(*) FROM pg_replication_slots WHERE wal_status {} 'lost'"
    for _ in range(3):
        psql(small_log, "SELECT pg_logical_emit_message(false, 'fill', 'x'), pg_switch_wal()")
    psql(small_log, "CHECKPOINT")
    psql(small_log, lost.format("="))
    message = pending()
    insert(small_log, message)
    assert left(small_log) == {message.message.task_id}

    psql(small_log, enable)
    psql(small_log, lost.format("<>"))
    insert(small_log, pending())
    assert left(small_log) == {message.message.task_id}


def test_after_a_lost_slot_everything_is_published_again(scene: Scene, published: Published) -> None:
    """As the page on Debezium says: stop, forget the position, run enable.sql, start."""
    # A connector that has only just begun would make the slot again.
    before = pending()
    insert(scene.database, before)
    published.wait_for([before.message.task_id])
    ask(scene, "PUT", "stop")
    wait_for_state(scene, "STOPPED")
    drop_when_free(scene)
    between = pending()
    insert(scene.database, between)
    ask(scene, "DELETE", "offsets")
    psql(scene.database, scripts(scene.database, scene.slot)["enable.sql"])
    after = pending()
    insert(scene.database, after)
    assert left(scene.database) == {between.message.task_id}
    ask(scene, "PUT", "resume")
    wait_for_state(scene, "RUNNING")

    published.wait_for([after.message.task_id])
    assert between.message.task_id not in published.records
    psql(scene.database, "DELETE FROM taskbridge_outbox")


def ask(scene: Scene, method: str, path: str) -> Any:
    """Ask Connect's REST interface about the connector, as Strimzi does."""
    request = Request(f"{scene.connect.url}/connectors/shop-outbox/{path}", method=method)  # noqa: S310 - our own server
    with urlopen(request, timeout=PATIENCE) as answer:  # noqa: S310
        return json.loads(answer.read() or "null")


def wait_for_state(scene: Scene, state: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while ask(scene, "GET", "status")["connector"]["state"] != state:
        assert time.monotonic() < deadline, f"the connector is not {state}"


def drop_when_free(scene: Scene) -> None:
    """Drop the slot, once PostgreSQL knows that its reader is gone."""
    connection = psycopg2.connect(scene.database)
    connection.autocommit = True
    try:
        with connection.cursor() as cursor:
            free, deadline = False, time.monotonic() + PATIENCE
            while not free:
                assert time.monotonic() < deadline, "the slot is still being read"
                cursor.execute("SELECT NOT active FROM pg_replication_slots WHERE slot_name = %s", [scene.slot])
                (free,) = cursor.fetchone() or (False,)
            cursor.execute("SELECT pg_drop_replication_slot(%s)", [scene.slot])
    finally:
        connection.close()


def test_the_outbox_goes_back_to_the_relay(scene: Scene) -> None:
    psql(scene.database, scripts(scene.database, scene.slot)["disable.sql"])
    message = pending()
    insert(scene.database, message)

    assert message.message.task_id in left(scene.database)
