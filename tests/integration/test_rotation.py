"""The password of a Kafka user is changed while its clients run."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # re-exports
    AdminClient,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

import devstack
from devstack.kafka import Kafka
from taskbridge.adapters.kafka.admin import KafkaAdmin
from taskbridge.adapters.kafka.consumer import KafkaRecordSource
from taskbridge.adapters.kafka.producer import BestEffortProducer, ConfirmedProducer
from taskbridge.record import Record
from taskbridge.settings import GroupProtocol, KafkaSettings, ServiceSettings, Settings
from taskbridge.worker.source import Assigned
from tests.project.harness import wait_for

pytestmark = [pytest.mark.services, pytest.mark.timeout(240)]

USER = "worker"
REAUTHENTICATION = 2.0
"""Seconds after which the broker asks a client for its password again, and ends the connection if it is wrong."""


class Scram(Kafka):
    """A broker that asks for passwords at one more listener."""

    port_names = ("client", "controller", "sasl")

    @property
    def sasl_url(self) -> str:
        return self.address("sasl")

    def listeners(self, controller: str) -> dict[str, str]:
        return {
            "listeners": f"PLAINTEXT://{self.url},SASL://{self.sasl_url},CONTROLLER://{controller}",
            "advertised.listeners": f"PLAINTEXT://{self.url},SASL://{self.sasl_url}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL:SASL_PLAINTEXT",
            "sasl.enabled.mechanisms": "SCRAM-SHA-512",
            "listener.name.sasl.scram-sha-512.sasl.jaas.config": (
                "org.apache.kafka.common.security.scram.ScramLoginModule required;"
            ),
            "listener.name.sasl.connections.max.reauth.ms": f"{REAUTHENTICATION * 1000:.0f}",
        }


@pytest.fixture(scope="module")
def broker() -> Iterator[Scram]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(devstack.SERVICES, "kafka", Scram)
        with devstack.Stack(["kafka"]) as stack:
            found = stack["kafka"]
            assert isinstance(found, Scram)
            yield found


def set_password(broker: Scram, password: str) -> None:
    credential = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
    client = AdminClient({"bootstrap.servers": broker.url})
    for future in client.alter_user_scram_credentials(
        [UserScramCredentialUpsertion(USER, credential, password.encode())]
    ).values():
        future.result(60)


def accepted(broker: Scram, password: str) -> bool:
    """Return whether a new client gets in with a password."""
    client = AdminClient(
        {
            "bootstrap.servers": broker.sasl_url,
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanisms": "SCRAM-SHA-512",
            "sasl.username": USER,
            "sasl.password": password,
            "log_level": 0,
        }
    )
    try:
        client.list_topics(timeout=2.0)
    except KafkaException:
        return False
    return True


class Traffic:
    """Records on their way from a producer to a member of a group, without a pause."""

    def __init__(self, settings: Settings, protocol: GroupProtocol) -> None:
        self.topic = settings.topic("orders")
        self.published = 0
        self.received: list[int] = []
        self.assigned = threading.Event()
        self._producer, self.copies = ConfirmedProducer(settings), BestEffortProducer(settings)
        self._source = KafkaRecordSource(settings.kafka, self.topic, settings.group("orders"), protocol)
        self._shadow = settings.shadow_topic("orders")
        self._stop = threading.Event()
        self._all_published = threading.Event()
        self._failures: list[BaseException] = []
        self._threads = [threading.Thread(target=self._guarded, args=(one,)) for one in (self._publish, self._consume)]

    def _guarded(self, work: object) -> None:
        try:
            assert callable(work)
            work()
        except BaseException as error:  # noqa: BLE001 - told by `check`
            self._failures.append(error)

    def _publish(self) -> None:
        self.assigned.wait(60)
        try:
            while not self._stop.is_set():
                self._producer.publish(self.topic, Record(b"k", str(self.published).encode()))
                self.copies.offer(self._shadow, Record(b"k", b"copy"))
                self.published += 1
                time.sleep(0.002)
        finally:
            self._all_published.set()

    def _consume(self) -> None:
        def begin(_: list[Assigned]) -> None:
            self.assigned.set()

        self._source.open(begin, lambda _: None, lambda _: None)  # type: ignore[arg-type]
        # A record that is being published when the traffic is stopped is one more to come.
        while not self._all_published.is_set() or len(self.received) < self.published:
            self.received += [int(record.value or b"") for record in self._source.poll(0.1, 1_000)]
        self._source.close()

    def begin(self) -> None:
        for thread in self._threads:
            thread.start()

    def goes_on(self) -> None:
        """Return once a hundred more records were published, and received."""
        wanted = self.published + 100
        wait_for(lambda: self._failures or len(self.received) >= wanted, "traffic")
        assert not self._failures

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(90)

    def check(self) -> None:
        """Fail when a publish was not confirmed, or a record did not come or came twice."""
        assert not self._failures
        assert self.received == list(range(self.published))


def refused(caplog: pytest.LogCaptureFixture) -> set[str]:
    """Return the loggers that told of a refused password."""
    return {record.name for record in caplog.records if "Authentication failed" in record.getMessage()}


@contextmanager
def traffic(settings: Settings, protocol: GroupProtocol) -> Iterator[Traffic]:
    one = Traffic(settings, protocol)
    one.begin()
    try:
        yield one
    finally:
        one.stop()
    one.check()


@pytest.mark.parametrize("protocol", ["consumer", "classic"])
def test_a_rotation_under_running_clients_loses_nothing(
    broker: Scram, tmp_path: Path, protocol: GroupProtocol, caplog: pytest.LogCaptureFixture
) -> None:
    password = tmp_path / "password"
    password.write_text("first")
    set_password(broker, "first")
    prefix = f"r{uuid4().hex[:8]}"
    services = {"orders": ServiceSettings("orders", tasks=("orders.*",), partitions=1)}
    plain = Settings(KafkaSettings(broker.url), services, prefix=prefix)
    admin = KafkaAdmin(plain)
    admin.ensure_topics(["orders"])
    admin.seed_offsets("orders")
    environment = {
        "KAFKA_BOOTSTRAP_SERVERS": broker.sasl_url,
        "KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
        "KAFKA_SASL_MECHANISMS": "SCRAM-SHA-512",
        "KAFKA_SASL_USERNAME": USER,
        "KAFKA_SASL_PASSWORD_FILE": str(password),
    }
    wait_for(lambda: accepted(broker, "first"), "the first password")
    kafka = KafkaSettings.from_environment(environment)
    settings = Settings(kafka, services, prefix=prefix, publish_timeout=60.0)
    asked = KafkaAdmin(settings)
    assert not asked.lag("orders").why_incomplete
    with traffic(settings, protocol) as flowing:
        flowing.goes_on()
        # Kafka has the new password first, as it is with Strimzi: until the file follows nobody gets in.
        set_password(broker, "second")
        wait_for(lambda: not accepted(broker, "first"), "the end of the first password")
        wait_for(lambda: refused(caplog) >= {"taskbridge.kafka", "taskbridge.adapters.kafka.consumer"}, "refusals")
        password.write_text("second")
        flowing.goes_on()
        assert not asked.lag("orders").why_incomplete
        # Every connection ends, and each client has to get in anew.
        broker.stop()
        broker.start()
        flowing.goes_on()
        # Copies are kept for ten seconds only; but they go on as well.
        assert flowing.copies.flush(30) == 0
        lost = sum(flowing.copies.lost.values())
        flowing.goes_on()
        assert flowing.copies.flush(30) == 0
        assert sum(flowing.copies.lost.values()) == lost
