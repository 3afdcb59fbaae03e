"""A password that changes while its clients run."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from taskbridge.adapters.kafka.credentials import LOOK_INTERVAL, Credentials
from taskbridge.exceptions import ConfigurationError
from taskbridge.settings import KafkaSettings


class Client:
    """A client that remembers what it was given."""

    def __init__(self) -> None:
        self.given: list[tuple[str, str]] = []

    def set_sasl_credentials(self, username: str, password: str) -> None:
        self.given.append((username, password))


class Mount:
    """A folder like that of a mounted Secret: a new version comes by the change of a link."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "password"
        self._folder, self._version = folder, 0

    def put(self, password: str) -> None:
        self._version += 1
        version = self._folder / f"..{self._version}"
        version.write_text(password)
        link = self._folder / "..new"
        link.symlink_to(version)
        os.replace(link, self.path)


@pytest.fixture
def mount(tmp_path: Path) -> Mount:
    mount = Mount(tmp_path)
    mount.put("first\n")
    return mount


def configured(mount: Mount) -> KafkaSettings:
    return KafkaSettings("localhost:1", "SASL_SSL", "SCRAM-SHA-512", "web", sasl_password_file=str(mount.path))


def test_a_client_begins_with_what_the_file_holds_and_hears_of_each_change_once(mount: Mount) -> None:
    now = [0.0]
    credentials, client = Credentials(configured(mount), lambda: now[0]), Client()
    mount.put("second")
    assert credentials.begin()["sasl.password"] == "second"
    credentials.renew(client)
    assert client.given == []
    mount.put("third")
    credentials.renew(client)
    assert client.given == [], "it has just been looked at"
    now[0] += LOOK_INTERVAL
    credentials.renew(client)
    now[0] += LOOK_INTERVAL
    credentials.renew(client)
    assert client.given == [("web", "third")]


def test_a_file_that_cannot_be_read_changes_nothing_and_is_said(mount: Mount, caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    credentials, client = Credentials(configured(mount), lambda: now[0]), Client()
    credentials.begin()
    mount.path.unlink()
    for _ in range(3):
        now[0] += LOOK_INTERVAL
        credentials.renew(client)
    mount.put("")
    now[0] += LOOK_INTERVAL
    credentials.renew(client)
    mount.put("second")
    now[0] += LOOK_INTERVAL
    credentials.renew(client)
    assert client.given == [("web", "second")]
    [warning] = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warning.startswith(f"KAFKA_SASL_PASSWORD_FILE names {mount.path}, which cannot be read: No such file")
    assert warning.endswith("the password that was read before is used on")


def test_no_password_is_ever_logged(mount: Mount, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    credentials, client = Credentials(configured(mount), lambda: 0.0), Client()
    credentials.begin()
    mount.put("swordfish")
    credentials.renew(client)
    assert client.given == [("web", "swordfish")]
    assert "the password of Kafka user web has changed" in caplog.text
    assert "swordfish" not in caplog.text
    assert "swordfish" not in repr(configured(mount))


def test_without_a_file_nothing_is_looked_at(tmp_path: Path) -> None:
    def clock() -> float:
        raise AssertionError("there is no reason to look")

    kafka = KafkaSettings("localhost:1", "SASL_SSL", "SCRAM-SHA-512", "web", "swordfish")
    credentials, client = Credentials(kafka, clock), Client()
    assert credentials.begin()["sasl.password"] == "swordfish"
    credentials.renew(client)
    assert client.given == []


def test_a_client_does_not_begin_without_its_password(mount: Mount) -> None:
    credentials = Credentials(configured(mount))
    mount.path.unlink()
    with pytest.raises(ConfigurationError, match="cannot be read: No such file"):
        credentials.begin()
