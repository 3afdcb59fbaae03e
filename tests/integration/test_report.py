"""The report, read from a real Kafka."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from taskbridge.adapters.kafka.cluster import Cluster
from taskbridge.adapters.kafka.observations import KafkaObservationLog
from taskbridge.cli.report import report
from taskbridge.cutover import Flag, Stage
from taskbridge.exceptions import BrokerUnavailable, ConfigurationError
from taskbridge.observation import Batch, CopyRow, DispatchRow, RunRow, dumps
from taskbridge.settings import Settings

pytestmark = pytest.mark.services

PARTITIONS = 3

Send = Callable[..., None]


@pytest.fixture
def settings(kafka_bootstrap: str, topic_prefix: str) -> Settings:
    services = {"orders": {"tasks": ["shop.orders.*"]}, "payments": {"tasks": ["shop.payments.*"]}}
    environment = {"KAFKA_BOOTSTRAP_SERVERS": kafka_bootstrap}
    return Settings.from_mapping({"prefix": topic_prefix, "services": services}, environment)


@pytest.fixture
def topic(settings: Settings) -> Iterator[str]:
    name = settings.observations_topic
    admin = AdminClient(settings.kafka.client_config())
    # Not by `admin`: a topic that was created is not at once one that can be read.
    Cluster(settings.kafka, timeout=60.0).create([NewTopic(name, PARTITIONS, 1)])
    yield name
    for deleted in admin.delete_topics([name]).values():
        deleted.result(60)


@pytest.fixture
def send(settings: Settings, topic: str) -> Send:
    """Writes one value to the observations topic and waits for its acknowledgement."""
    producer = Producer({**settings.kafka.client_config(), "partitioner": "murmur2_random"})

    def produce(value: bytes | Batch, at: float | None = None, partition: int | None = None) -> None:
        failures: list[object] = []
        place = {} if partition is None else {"partition": partition}
        key = value.service.encode() if isinstance(value, Batch) else None
        producer.produce(
            topic,
            dumps(value) if isinstance(value, Batch) else value,
            key,
            timestamp=int((at or time.time()) * 1000),
            on_delivery=lambda error, _: failures.append(error),
            **place,
        )
        assert producer.flush(30) == 0
        assert failures == [None]

    return produce


def dispatched(number: int, route: str = "celery", **fields: object) -> Batch:
    values = {"copy": "none", "stage": "live", "service": "orders"} | fields
    row = DispatchRow(
        id=f"task-{number}",
        retries=0,
        nesting=0,
        task="shop.orders.tasks.place",
        key=f"task-{number}",
        route=route,
        epoch=2,
        seq=number,
        at=time.time() - 60,
        copy=values["copy"],
        body="b0d1",
        stage=values["stage"],
    )
    return Batch("dispatch", str(values["service"]), "web:1:aa", (row,))


def ran(number: int, side: str = "celery", offset: int = -1, service: str = "orders") -> Batch:
    row = RunRow(
        id=f"task-{number}",
        retries=0,
        nesting=0,
        task="shop.orders.tasks.place",
        side=side,
        outcome="success",
        started=time.time() - 59,
        finished=time.time() - 58.5,
        partition=0 if offset >= 0 else -1,
        offset=offset,
    )
    return Batch("run", service, "worker:2:bb", (row,))


def copied(number: int, **fields: object) -> Batch:
    values = {"body": "b0d1", "bound": True} | fields
    row = CopyRow(
        id=f"task-{number}",
        retries=0,
        nesting=0,
        task="shop.orders.tasks.place",
        epoch=2,
        producer="web:1:aa",
        seq=number,
        partition=0,
        offset=number,
        decoded=True,
        resolved=True,
        bound=bool(values["bound"]),
        body=str(values["body"]),
    )
    return Batch("copy", "orders", "shadow:3:cc", (row,))


def run_report(monkeypatch: pytest.MonkeyPatch, settings: Settings, *arguments: str) -> tuple[int, dict[str, object]]:
    flag = Flag("orders", Stage.LIVE, 5000, 2, 2)
    bridge = SimpleNamespace(settings=settings, store=SimpleNamespace(flags_since=lambda _: [flag]))
    monkeypatch.setattr("taskbridge.cli.context.load_bridge", lambda _: bridge)
    result = CliRunner().invoke(report, [*arguments, "--json"])
    assert isinstance(result.exception, SystemExit | None), result.exception
    assert result.exit_code != 2, result.stderr
    return result.exit_code, json.loads(result.stdout)


def test_a_service_that_agrees(settings: Settings, send: Send, monkeypatch: pytest.MonkeyPatch) -> None:
    # Runs first, and everything spread over the partitions: no order is promised between records.
    for number in range(1, 13):
        side = "kafka" if number % 2 else "celery"
        send(ran(number, side, number if side == "kafka" else -1), partition=number % PARTITIONS)
        send(dispatched(number, side), partition=(number + 1) % PARTITIONS)
    send(dispatched(13, copy="sent", stage="mirror"))
    send(copied(13))
    send(dispatched(1, service="payments"))

    status, document = run_report(monkeypatch, settings, "orders")

    assert status == 0
    (service,) = document["services"]
    assert service["dispatched"] == 13
    assert service["executed"]["classes"]["EXECUTED"] == 12
    assert service["mirrored"]["classes"]["MATCH"] == 1
    assert service["sides"]["kafka"]["execution"]["n"] == service["sides"]["celery"]["execution"]["n"] == 6
    assert service["next"] == "taskbridge cutover orders live --percent 100 --dry-run"


def test_what_does_not_agree_is_found(settings: Settings, send: Send, monkeypatch: pytest.MonkeyPatch) -> None:
    send(dispatched(1, "kafka"))
    send(ran(1, "kafka", 5))
    send(ran(1, "kafka", 6))
    send(dispatched(2, "kafka"))
    send(ran(2, "celery"))
    send(dispatched(3, "kafka"))
    send(dispatched(4, copy="sent", stage="mirror"))
    send(copied(4, bound=False))
    send(dispatched(5, copy="sent", stage="mirror"))
    send(ran(6))

    status, document = run_report(monkeypatch, settings, "orders")

    assert status == 1
    (service,) = document["services"]
    found = {finding["id"]: finding["class"] for finding in service["findings"]}
    assert found == {
        "task-1": "DUPLICATE",
        "task-2": "WRONG_SIDE",
        "task-3": "MISSING",
        "task-4": "MISMATCH",
        "task-5": "MISSING_CANDIDATE",
    }
    assert service["dispatched"] == 5
    assert service["evidence"]["undispatched"]["identities"] == 1


def test_an_empty_topic_is_no_agreement(settings: Settings, topic: str, monkeypatch: pytest.MonkeyPatch) -> None:
    status, document = run_report(monkeypatch, settings, "--all")
    assert status == 3
    assert [service["verdict"] for service in document["services"]] == ["INSUFFICIENT", "INSUFFICIENT"]


def test_reading_begins_where_it_is_told(settings: Settings, send: Send) -> None:
    now = time.time()
    for number, age in ((1, 3600), (2, 1800), (3, 60)):
        send(dispatched(number), at=now - age, partition=number % PARTITIONS)
        send(dispatched(number + 10), at=now - age, partition=0)
    seen = [batch.rows[0].id for batch in KafkaObservationLog(settings).read("orders", since=now - 2000)]
    assert sorted(seen) == ["task-12", "task-13", "task-2", "task-3"]
    assert list(KafkaObservationLog(settings).read("orders", since=now + 3600)) == []


def test_reading_ends_where_the_log_ended_when_it_began(settings: Settings, send: Send) -> None:
    send(dispatched(1), partition=0)
    reading = KafkaObservationLog(settings).read("orders")
    first = next(reading)
    send(dispatched(2), partition=0)
    assert [row.id for batch in (first, *reading) for row in batch.rows] == ["task-1"]


def test_records_that_cannot_be_read_are_counted_and_skipped(
    settings: Settings, send: Send, caplog: pytest.LogCaptureFixture
) -> None:
    send(b"not json", partition=1)
    send(dispatched(1), partition=1)
    send(b'{"v":9,"kind":"run","service":"orders","source":"x","rows":[]}', partition=1)
    log = KafkaObservationLog(settings)
    assert [batch.rows[0].id for batch in log.read("orders")] == ["task-1"]
    assert log.malformed == 2
    assert log.first_malformed == f"{settings.observations_topic} partition 1 offset 0"
    assert len(caplog.records) == 1


def test_progress_is_told_up_to_the_end(settings: Settings, send: Send) -> None:
    for number in range(1, 6):
        send(dispatched(number))
    told: list[tuple[int, int]] = []
    log = KafkaObservationLog(settings, progress=lambda done, total: told.append((done, total)))
    assert len(list(log.read("orders"))) == 5
    assert told[-1] == (5, 5)


def test_a_missing_topic_is_named_with_the_remedy(settings: Settings) -> None:
    with pytest.raises(ConfigurationError, match=r"the topic .*\.observations does not exist.*taskbridge topics"):
        list(KafkaObservationLog(settings).read("orders"))


def test_an_unreachable_kafka_is_named() -> None:
    with socket.socket() as listener:
        # A port that is bound and not listened on refuses, whoever else looks for ports meanwhile.
        listener.bind(("127.0.0.1", 0))
        servers = f"127.0.0.1:{listener.getsockname()[1]}"
        settings = Settings.from_mapping(
            {"services": {"orders": {"tasks": ["*"]}}}, {"KAFKA_BOOTSTRAP_SERVERS": servers}
        )
        began = time.monotonic()
        with pytest.raises(BrokerUnavailable, match=f"Kafka at {servers} could not be read"):
            list(KafkaObservationLog(settings, timeout=2.0).read("orders"))
    assert time.monotonic() - began < 60
