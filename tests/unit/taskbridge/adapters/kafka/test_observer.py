"""Rows on their way to the observations topic."""

from __future__ import annotations

import os
import threading
import time
from typing import Any

import pytest

from taskbridge.adapters.kafka.observer import MOST_ROWS, KafkaObserver
from taskbridge.observation import Batch, RunRow, loads
from taskbridge.record import Record
from taskbridge.testing import FakePublisher
from tests.unit.taskbridge.adapters.kafka.conftest import configured


def row(number: int) -> RunRow:
    return RunRow(f"id-{number}", 0, 0, "orders.place", "celery", "success", 1.0, 2.0)


@pytest.fixture
def publisher() -> FakePublisher:
    return FakePublisher()


@pytest.fixture
def observer(publisher: FakePublisher) -> Any:
    return KafkaObserver(publisher, configured("localhost:1"))  # type: ignore[arg-type]


def sent(publisher: FakePublisher) -> list[Batch]:
    return [loads(record.value) for _, record in publisher.records]


def test_rows_leave_by_themselves_after_a_moment_together(observer: Any, publisher: FakePublisher) -> None:
    arrived = threading.Event()
    offer = publisher.offer

    def offered(topic: str, record: Record) -> bool:
        arrived.set()
        return offer(topic, record)

    publisher.offer = offered  # type: ignore[method-assign]
    for number in range(3):
        observer.observe(Batch("run", "orders", "here:1:ab", [row(number)]))
    observer.observe(Batch("run", "payments", "here:1:ab", [row(3)]))
    assert arrived.wait(60)
    observer.flush()
    assert [(batch.service, [found.id for found in batch.rows]) for batch in sent(publisher)] == [
        ("orders", ["id-0", "id-1", "id-2"]),
        ("payments", ["id-3"]),
    ]
    assert [(topic, record.key) for topic, record in publisher.records] == [
        ("taskbridge.observations", b"orders"),
        ("taskbridge.observations", b"payments"),
    ]


def test_a_full_record_leaves_at_once(observer: Any, publisher: FakePublisher) -> None:
    for number in range(MOST_ROWS):
        observer.observe(Batch("run", "orders", "here:1:ab", [row(number)]))
    assert [len(batch.rows) for batch in sent(publisher)] == [MOST_ROWS]


def test_no_row_is_lost_or_doubled_between_threads(observer: Any, publisher: FakePublisher) -> None:
    def observe(start: int) -> None:
        for number in range(start, start + 2_000):
            observer.observe(Batch("run", "orders", "here:1:ab", [row(number)]))

    threads = [threading.Thread(target=observe, args=(start,)) for start in range(0, 16_000, 2_000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    observer.flush()
    deadline = time.monotonic() + 60
    while sum(len(batch.rows) for batch in sent(publisher)) < 16_000 and time.monotonic() < deadline:
        observer.flush()
    found = [observed.id for batch in sent(publisher) for observed in batch.rows]
    assert len(found) == len(set(found)) == 16_000


def test_a_row_that_is_no_json_is_said_and_stops_nothing(
    observer: Any, publisher: FakePublisher, caplog: pytest.LogCaptureFixture
) -> None:
    broken = RunRow(object(), 0, 0, "t", "celery", "success", 1.0, 2.0)  # type: ignore[arg-type]
    observer.observe(Batch("run", "payments", "here:1:ab", [broken]))
    observer.observe(Batch("run", "orders", "here:1:ab", [row(1)]))
    observer.flush()
    assert [batch.service for batch in sent(publisher)] == ["orders"]
    assert "observations of service payments cannot be written" in caplog.text


def test_a_forked_child_sends_its_own_rows_only(observer: Any, publisher: FakePublisher) -> None:
    observer.observe(Batch("run", "orders", "parent", [row(1)]))
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        publisher.records.clear()
        observer.observe(Batch("run", "orders", "child", [row(2)]))
        observer.flush()
        os.write(writer, b"\n".join(record.value for _, record in publisher.records))
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        lines = pipe.read().splitlines()
    os.waitpid(child, 0)
    observer.flush()
    assert [loads(line).source for line in lines] == ["child"]
    assert [batch.source for batch in sent(publisher)] == ["parent"]
