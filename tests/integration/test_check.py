"""`taskbridge check` against servers that are as they should be, and against some that are not."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from celery import Celery
from click.testing import CliRunner, Result
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourcePatternType,
    ResourceType,
)
from django.db import connections

from devstack import stack as devstack
from devstack.kafka import Kafka
from devstack.process import Spec
from taskbridge.adapters.celery.preflight import celery_lines
from taskbridge.adapters.kafka.admin import KafkaAdmin
from taskbridge.adapters.kafka.preflight import Duty, KafkaPreflight
from taskbridge.checks import Line, Status
from taskbridge.cli.check import check, gather
from taskbridge.contrib.django import preflight
from taskbridge.contrib.django.session import Sessions
from taskbridge.contrib.django.store import DjangoStore
from taskbridge.settings import Settings

pytestmark = pytest.mark.services


def configured(bootstrap: str, prefix: str, **options: Any) -> Settings:
    services = {"orders": {"tasks": ["o.*"], "partitions": 2}, "fraud": {"tasks": ["f.*"], "partitions": 2}}
    return Settings.from_mapping(
        {"prefix": prefix, "services": services} | options, {"KAFKA_BOOTSTRAP_SERVERS": bootstrap}
    )


@pytest.fixture
def settings(kafka_bootstrap: str, topic_prefix: str) -> Settings:
    return configured(kafka_bootstrap, topic_prefix)


def prepare(settings: Settings, *services: str) -> None:
    admin = KafkaAdmin(settings)
    admin.ensure_topics(services)
    for service in services:
        admin.seed_offsets(service)


def failures(lines: Iterator[Line]) -> dict[str, str]:
    return {line.subject: f"{line.detail}; {line.remedy}" for line in lines if line.status is Status.FAIL}


def test_what_is_prepared_is_ok_and_nothing_is_created(settings: Settings) -> None:
    topic = settings.topic("orders")
    absent = failures(KafkaPreflight(settings, ["orders"]).lines())
    assert absent[f"topic {topic}"] == "it does not exist; create it with `taskbridge topics`"
    assert KafkaAdmin(settings).depth(topic) is None

    prepare(settings, "orders")
    lines = list(KafkaPreflight(settings, ["orders"]).lines())
    assert failures(iter(lines)) == {}
    found = {line.subject: line.detail for line in lines if line.status is Status.OK}
    assert found["group protocol"] == "the brokers offer consumer"
    assert found[f"topic {topic}"] == "this user may Read and Write"
    assert found[f"offsets of {settings.group('orders', 'shadow')}"] == "every partition has one"
    assert any("one replica" in line.detail for line in lines if line.status is Status.WARN)


def test_only_what_the_process_needs_is_asked_for(settings: Settings) -> None:
    prepare(settings, "orders")
    subjects = {line.subject: line.detail for line in KafkaPreflight(settings, ["orders"], "dispatch").lines()}
    assert subjects["offset retention"].startswith("30 days")
    assert not any(subject.startswith(("group test", "offsets of")) for subject in subjects)


def test_topics_unlike_the_settings(settings: Settings) -> None:
    prepare(settings, "orders")
    topic = settings.topic("orders")
    client = AdminClient(settings.kafka.client_config())
    changed = {"cleanup.policy": "compact", "retention.ms": "1000", "max.message.bytes": "1000"}
    entries = [ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET) for name, value in changed.items()]
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries)
    client.incremental_alter_configs([resource])[resource].result(60)
    more = replace(settings.services["orders"], partitions=3)
    wanted = replace(settings, services={**settings.services, "orders": more})

    lines = [line for line in KafkaPreflight(wanted, ["orders"]).lines() if line.subject == f"topic {topic}"]
    failed = " ".join(line.detail for line in lines if line.status is Status.FAIL)
    assert "2 partitions where TASKBRIDGE says 3" in failed
    assert "cleanup.policy=compact: records with a key that comes again would be deleted" in failed
    assert "max.message.bytes=1000, and TASKBRIDGE allows larger records" in failed
    assert any("retention.ms=1000" in line.detail for line in lines if line.status is Status.WARN)


def test_offsets_that_are_missing_and_retention_that_is_too_long(settings: Settings) -> None:
    KafkaAdmin(settings).ensure_topics(["orders"])
    long = {**settings.services, "orders": replace(settings.services["orders"], retention=40 * 86_400.0)}
    lines = list(KafkaPreflight(replace(settings, services=long), ["orders"]).lines())
    failed = failures(iter(lines))
    assert "no committed or end offset for partition 0, 1" in failed[f"offsets of {settings.group('orders')}"]
    [retention] = [line for line in lines if line.subject == "offset retention"]
    assert retention.status is Status.WARN
    assert "30 days, and records are kept for 40 days" in retention.detail


def test_every_bootstrap_server_is_tried_by_itself(settings: Settings) -> None:
    prepare(settings, "orders")
    kafka = replace(settings.kafka, bootstrap_servers=f"127.0.0.1:1, {settings.kafka.bootstrap_servers}")
    lines = list(KafkaPreflight(replace(settings, kafka=kafka), ["orders"]).lines())
    assert failures(iter(lines)) == {}, "one that answers is enough to start with"
    [away] = [line for line in lines if line.subject == "Kafka at 127.0.0.1:1"]
    assert away.status is Status.WARN
    assert "refused" in away.detail
    gone = replace(settings.kafka, bootstrap_servers="127.0.0.1:1,127.0.0.1:2")
    assert len(failures(KafkaPreflight(replace(settings, kafka=gone), ["orders"]).lines())) == 2


class Guarded(Kafka):
    """A broker that asks its access rules; what no rule speaks of is allowed."""

    def configure(self) -> Spec:
        spec = super().configure()
        with (self.directory / "server.properties").open("a") as file:
            file.write("authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\n")
            file.write("allow.everyone.if.no.acl.found=true\n")
        return spec


@contextmanager
def guarded(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setitem(devstack.SERVICES, "kafka", Guarded)
    with devstack.Stack(["kafka"]) as stack:
        yield stack["kafka"].url


def rule(kind: Any, name: str, operation: Any) -> AclBinding:
    """A rule for somebody else, which denies that operation to everybody it does not name."""
    allow = AclPermissionType.ALLOW
    return AclBinding(kind, name, ResourcePatternType.LITERAL, "User:other", "*", operation, allow)


@pytest.mark.timeout(180)
def test_denied_and_absent_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    with guarded(monkeypatch) as bootstrap:
        settings = configured(bootstrap, "denied")
        prepare(settings, "orders")
        live, shadow, dlq = (f"denied.orders{suffix}" for suffix in ("", ".shadow", ".dlq"))
        mine = AclBinding(
            ResourceType.TOPIC,
            shadow,
            ResourcePatternType.LITERAL,
            "User:ANONYMOUS",
            "*",
            AclOperation.WRITE,
            AclPermissionType.ALLOW,
        )
        rules = [
            rule(ResourceType.TOPIC, live, AclOperation.ALL),
            mine,
            rule(ResourceType.GROUP, live, AclOperation.ALL),
        ]
        client = AdminClient({"bootstrap.servers": bootstrap})
        for future in client.create_acls(rules).values():
            future.result(60)

        def found() -> dict[str, str]:
            return failures(KafkaPreflight(settings, ["orders", "fraud"]).lines())

        deadline = time.monotonic() + 60
        while f"topic {live}" not in found() and time.monotonic() < deadline:
            time.sleep(0.2)
        failed = found()
        assert failed[f"topic {live}"].startswith("access is denied, so that it cannot even be seen; grant")
        assert failed[f"topic {shadow}"] == "it is there, but this user may not Read; grant it Read"
        assert failed["topic denied.fraud"] == "it does not exist; create it with `taskbridge topics`"
        assert "access is denied" in failed[f"group {live}"]
        assert f"topic {dlq}" not in failed


def app(broker: str, backend: str | None) -> Any:
    return Celery(f"app-{uuid4().hex[:8]}", broker=broker, backend=backend, set_as_current=False)


def test_celerys_side(redis_url: str) -> None:
    assert [line.status for line in celery_lines(app(redis_url, redis_url))] == [Status.OK, Status.OK]
    password = redis_url.partition("@")[0].rpartition(":")[2]
    assert password not in str(list(celery_lines(app(redis_url, redis_url)))) or not password
    away = list(celery_lines(app("redis://127.0.0.1:1", "redis://127.0.0.1:1")))
    assert [line.status for line in away] == [Status.FAIL, Status.FAIL]
    assert failures(celery_lines(app(redis_url, "rpc://")))["result backend"].startswith("rpc:// results stay")
    assert [line.status for line in celery_lines(app(redis_url, "db+postgresql://x"))][1] is Status.WARN
    assert [line.detail for line in celery_lines(app(redis_url, None))][1].startswith("none: ")


@pytest.mark.parametrize("duty", ["worker", "shadow", "dispatch"])
def test_who_does_without_celerys_servers_starts_without_them(
    duty: Duty, settings: Settings, alias: str, redis_url: str
) -> None:
    def celerys(broker: str, backend: str) -> list[Status]:
        bridge: Any = SimpleNamespace(settings=settings, store=DjangoStore(alias), app=app(broker, backend))
        lines = {line.subject: line.status for line in gather(bridge, ["orders"], duty)}
        return [lines["Celery's broker"], lines["result backend"]]

    gone = "redis://127.0.0.1:1"
    assert celerys(gone, gone) == [Status.WARN, Status.WARN]
    assert celerys(redis_url, "rpc://") == [Status.OK, Status.FAIL], "what will never work is no outage"


def test_the_database(alias: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = {line.subject: line for line in preflight.database_lines(Sessions(alias))}
    assert [line.status for line in lines.values()] == [Status.OK] * 3

    with connections[alias].cursor() as cursor:
        cursor.execute(
            "UPDATE django_migrations SET name = 'x_' || name WHERE app = 'taskbridge' AND name LIKE '0002%'"
        )
    try:
        lines = {line.subject: line for line in preflight.database_lines(Sessions(alias))}
        assert lines["migrations"].status is Status.FAIL
        assert lines["migrations"].detail.startswith("not applied: 0002")
    finally:
        with connections[alias].cursor() as cursor:
            cursor.execute("UPDATE django_migrations SET name = substr(name, 3) WHERE name LIKE 'x\\_%'")

    monkeypatch.setattr(preflight, "time", SimpleNamespace(time=lambda: time.time() - 60))
    lines = {line.subject: line for line in preflight.database_lines(Sessions(alias))}
    assert lines["clock"].status is Status.WARN
    assert "60.0 s ahead of this machine's" in lines["clock"].detail

    monkeypatch.setitem(connections.settings[alias], "PORT", "1")
    [line] = preflight.database_lines(Sessions(alias))
    assert line.status is Status.FAIL


def test_the_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [line.status for line in preflight.version_lines()] == [Status.OK]
    monkeypatch.setattr("celery.__version__", "5.3.0")
    [line] = preflight.version_lines()
    assert (line.status, "needs Celery 5.4" in line.detail) == (Status.FAIL, True)


def test_the_command(settings: Settings, alias: str, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bridge = SimpleNamespace(settings=settings, store=DjangoStore(alias), app=app(redis_url, redis_url))
    monkeypatch.setattr("taskbridge.cli.context.load_bridge", lambda _: bridge)

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(check, arguments, obj="project", catch_exceptions=False)

    result = run("orders", "--wait", "0.1")
    assert result.exit_code == 1
    assert f"fail  topic {settings.topic('orders')}: it does not exist\n      -> create it with" in result.stdout
    assert "ok    floor of orders: off; the service was never moved\n" in result.stdout

    # It is prepared while the command waits.
    monkeypatch.setattr("taskbridge.cli.check.time.sleep", lambda _: prepare(settings, "orders"))
    result = run("--service", "orders", "--wait", "60", "--json")
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    assert (document["schema"], document["status"]) == ("taskbridge.check/1", "warn")
    assert result.stderr.startswith(f"waiting: topic {settings.observations_topic}: it does not exist")
