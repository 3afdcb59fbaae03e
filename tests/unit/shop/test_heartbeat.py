"""Files by which probes see that a worker and a beat are alive."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from celery import Celery
from celery.beat import Service
from celery.contrib.testing.worker import start_worker
from celery.signals import beat_init, import_modules
from celery.worker import WorkController

from shop import heartbeat

LONG_AGO = 1.0


@pytest.fixture
def app(tmp_path: Path) -> Celery:
    app = Celery("beating", broker="memory://", set_as_current=False)
    app.conf.beat_schedule_filename = str(tmp_path / "schedule")
    heartbeat.install(app, tmp_path / "state")
    return app


def until_beaten(file: Path) -> None:
    deadline = time.monotonic() + 60
    while not file.exists() or file.stat().st_mtime == LONG_AGO:
        assert time.monotonic() < deadline, f"{file.name} was not written"
        time.sleep(0.01)


def test_a_worker_that_takes_messages_beats(app: Celery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "INTERVAL", 0.05)
    # A worker would also look for the tasks of other applications in this process.
    monkeypatch.setattr(import_modules, "receivers", [])
    state = tmp_path / "state"

    with start_worker(app, pool="solo", perform_ping_check=False, loglevel="ERROR"):
        until_beaten(state / "ready")
        until_beaten(state / "heartbeat")
        os.utime(state / "heartbeat", (LONG_AGO, LONG_AGO))
        until_beaten(state / "heartbeat")

    assert (state / "started").exists()
    assert (state / "ready").exists(), "it has been ready, also when its broker goes away"
    assert not (state / "heartbeat").exists(), "without a connection no heartbeat can be missed"


def test_a_worker_has_started_before_it_connects(app: Celery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that is away lets nobody be ready, and nobody be killed because it did not start."""
    found: list[list[str]] = []
    monkeypatch.setattr(import_modules, "receivers", [])
    monkeypatch.setattr(
        "celery.worker.consumer.Consumer.start",
        lambda _: found.append(sorted(file.name for file in (tmp_path / "state").glob("*"))),
    )

    WorkController(app, pool="solo", loglevel="ERROR").start()

    assert found == [["started"]]


def test_beat_beats_whenever_it_looks_at_its_schedule(app: Celery, tmp_path: Path) -> None:
    service = Service(app, schedule_filename=app.conf.beat_schedule_filename)
    beat_init.send(sender=service)
    assert not (tmp_path / "state" / "heartbeat").exists()

    assert service.scheduler.tick() > 0

    assert (tmp_path / "state" / "heartbeat").exists()
