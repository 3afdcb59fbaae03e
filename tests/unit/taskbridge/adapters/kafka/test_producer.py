"""Producers against a broker that answers, one that never does, and across forks."""

from __future__ import annotations

import logging
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from taskbridge.adapters.kafka import producer
from taskbridge.adapters.kafka.producer import BestEffortProducer, ConfirmedProducer
from taskbridge.exceptions import PublishAmbiguous, PublishRefused
from taskbridge.record import Record
from taskbridge.settings import KafkaSettings
from tests.unit.taskbridge.adapters.kafka.conftest import configured

LIVE, SHADOW = "taskbridge.orders", "taskbridge.orders.shadow"


@pytest.fixture(scope="module")
def confirmed(mock_broker: str) -> Iterator[ConfirmedProducer]:
    """One for all: an idempotent producer's first record takes half a second."""
    confirmed = ConfirmedProducer(configured(mock_broker))
    yield confirmed
    confirmed.close()


def murmur2(key: bytes) -> int:
    """Java's hash, as Kafka's own client computes it."""
    mask, m = 0xFFFFFFFF, 0x5BD1E995
    h = 0x9747B28C ^ len(key)
    whole = len(key) // 4 * 4
    for start in range(0, whole, 4):
        k = int.from_bytes(key[start : start + 4], "little") * m & mask
        k = (k ^ k >> 24) * m & mask
        h = h * m & mask ^ k
    if rest := key[whole:]:
        h = (h ^ int.from_bytes(rest, "little")) * m & mask
    h = (h ^ h >> 13) * m & mask
    return (h ^ h >> 15) & 0x7FFFFFFF


def test_a_published_record_is_there_in_javas_partition(confirmed: Any, consume: Callable[..., Any]) -> None:
    read = consume(LIVE)
    keys = [f"customer-{number}".encode() for number in range(20)]
    for key in keys:
        confirmed.publish(LIVE, Record(key, b"value of " + key, [("task", b"t"), ("raw", b"\x00\xff")]))
    found = {message.key(): message for message in read(20)}
    assert sorted(found) == sorted(keys)
    partitions = 1 + max(message.partition() for message in found.values())
    assert partitions > 1
    for key, message in found.items():
        assert message.value() == b"value of " + key
        assert message.headers() == [("task", b"t"), ("raw", b"\x00\xff")]
        assert message.partition() == murmur2(key) % partitions


def test_a_publish_takes_as_long_as_the_broker_and_no_polling_interval_more(confirmed: Any) -> None:
    confirmed.publish(LIVE, Record(b"k", b"warm"))
    times = []
    for _ in range(100):
        began = time.perf_counter()
        confirmed.publish(LIVE, Record(b"k", b"v"))
        times.append(time.perf_counter() - began)
    assert statistics.median(times) < 0.01


def test_threads_wait_at_once_and_each_gets_its_own_report(confirmed: Any, consume: Callable[..., Any]) -> None:
    read = consume(LIVE)
    huge = b"x" * 2_000_000

    def publish(number: int) -> bool:
        too_large = number % 10 == 0
        try:
            confirmed.publish(LIVE, Record(b"k%d" % number, huge if too_large else b"x"))
        except PublishRefused:
            return too_large
        return not too_large

    with ThreadPoolExecutor(32) as pool:
        assert all(pool.map(publish, range(800)))
    assert len({message.key() for message in read(720)}) == 720


def test_many_at_once_keep_their_order_and_their_outcomes(confirmed: Any, consume: Callable[..., Any]) -> None:
    read = consume(LIVE)
    records = [(LIVE, Record(b"same", b"%d" % number)) for number in range(50)]
    outcomes = confirmed.publish_many([*records[:25], (LIVE, Record(b"same", b"x" * 2_000_000)), *records[25:]])
    assert [outcome is None for outcome in outcomes] == [True] * 25 + [False] + [True] * 25
    assert isinstance(outcomes[25], PublishRefused)
    assert [message.value() for message in read(50)] == [record.value for _, record in records]


def test_a_record_that_is_too_large_names_the_limit(mock_broker: str) -> None:
    confirmed = ConfirmedProducer(configured(mock_broker, max_message_bytes=2_000))
    with pytest.raises(PublishRefused, match=r'2036 bytes.*taskbridge.orders.*"max_message_bytes"\], 2000'):
        confirmed.publish(LIVE, Record(b"k" * 30, b"v" * 2_000, [("a", b"bcdef")]))
    confirmed.publish(LIVE, Record(b"k", b"v" * 1_999))


def test_a_topic_that_is_not_there_is_refused_in_time(mock_broker: str) -> None:
    confirmed = ConfirmedProducer(configured(mock_broker, publish_timeout=2.0))
    began = time.monotonic()
    with pytest.raises(PublishRefused, match=r"topic taskbridge\.nowhere"):
        confirmed.publish("taskbridge.nowhere", Record(b"k", b"v"))
    assert time.monotonic() - began < 60


def test_a_broker_that_never_answers_is_ambiguous_in_time(black_hole: str, capfd: Any) -> None:
    confirmed = ConfirmedProducer(configured(black_hole, publish_timeout=0.5))
    began = time.monotonic()
    with pytest.raises(PublishAmbiguous, match=r"did not confirm a record for topic taskbridge\.orders"):
        confirmed.publish(LIVE, Record(b"k", b"v"))
    assert 0.4 < time.monotonic() - began < 60
    assert capfd.readouterr().err == ""


def test_a_client_that_cannot_be_made_refuses(black_hole: str) -> None:
    settings = configured(black_hole)
    kafka = KafkaSettings(black_hole, "SASL_PLAINTEXT", "MAGIC", "user", "hunter2-secret")
    with pytest.raises(PublishRefused, match="the Kafka client cannot be made") as failed:
        ConfirmedProducer(replace(settings, kafka=kafka)).publish(LIVE, Record(b"k", b"v"))
    assert "hunter2" not in str(failed.value)


def test_copies_are_sent_without_waiting(mock_broker: str, consume: Callable[..., Any]) -> None:
    read = consume(SHADOW)
    best_effort = BestEffortProducer(configured(mock_broker))
    for number in range(300):
        assert best_effort.offer(SHADOW, Record(b"k", b"%d" % number, [("id", b"x")]))
    assert best_effort.flush(10) == 0
    assert [message.value() for message in read(300)] == [b"%d" % number for number in range(300)]
    assert best_effort.lost == {}


def test_copies_never_block_and_what_does_not_fit_is_counted(
    black_hole: str, caplog: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(producer, "_EXIT_TIMEOUT", 0.1)
    best_effort = BestEffortProducer(configured(black_hole, copy_buffer=100))
    began = time.monotonic()
    with caplog.at_level(logging.WARNING, "taskbridge.kafka"):
        taken = [best_effort.offer(SHADOW, Record(b"k", b"v")) for _ in range(1_000)]
    assert time.monotonic() - began < 60
    assert taken == [True] * 100 + [False] * 900
    assert best_effort.lost == {SHADOW: 900}
    assert len([record for record in caplog.records if "being lost" in record.getMessage()]) == 1
    with caplog.at_level(logging.WARNING, "taskbridge.kafka"):
        best_effort.close()
    assert "100 copies and observations are lost" in caplog.text


def test_copies_that_no_client_can_send_are_lost_quietly(black_hole: str) -> None:
    kafka = KafkaSettings(black_hole, "SASL_PLAINTEXT", "MAGIC", "user", "secret")
    best_effort = BestEffortProducer(replace(configured(black_hole), kafka=kafka))
    assert best_effort.offer(SHADOW, Record(b"k", b"v")) is False
    assert best_effort.lost == {SHADOW: 1}


def test_a_topic_that_is_not_there_loses_copies_which_are_counted(mock_broker: str) -> None:
    best_effort = BestEffortProducer(configured(mock_broker))
    assert best_effort.offer("taskbridge.nowhere", Record(b"k", b"v"))
    best_effort.flush(30)
    assert best_effort.lost == {"taskbridge.nowhere": 1}


FORKS = """
import os, sys
sys.path[:0] = {path!r}
from taskbridge.adapters.kafka.producer import BestEffortProducer, ConfirmedProducer
from taskbridge.record import Record
from tests.unit.taskbridge.adapters.kafka.conftest import configured

settings = configured({bootstrap!r})
confirmed, best_effort = ConfirmedProducer(settings), BestEffortProducer(settings)
confirmed.publish("taskbridge.orders", Record(b"parent", b"first"))
best_effort.offer("taskbridge.orders", Record(b"parent", b"copy"))
child = os.fork()
if child == 0:
    if {publishes}:
        confirmed.publish("taskbridge.orders", Record(b"child", b"confirmed"))
        best_effort.offer("taskbridge.orders", Record(b"child", b"copy"))
    # Through the interpreter's whole end, which frees every object and runs what is registered for exit.
    sys.exit(0)
status = os.waitpid(child, 0)[1]
confirmed.publish("taskbridge.orders", Record(b"parent", b"second"))
sys.exit(os.waitstatus_to_exitcode(status))
"""


@pytest.mark.parametrize("publishes", [True, False])
def test_a_fork_leaves_both_processes_able_to_publish_and_to_end(
    mock_broker: str, consume: Callable[..., Any], publishes: bool
) -> None:
    read = consume(LIVE)
    root = str(Path(__file__).parents[5])
    script = FORKS.format(path=[root, *sys.path], bootstrap=mock_broker, publishes=publishes)
    done = subprocess.run([sys.executable, "-c", script], timeout=120, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    expected = {(b"parent", b"first"), (b"parent", b"copy"), (b"parent", b"second")}
    if publishes:
        expected |= {(b"child", b"confirmed"), (b"child", b"copy")}
    found = [(message.key(), message.value()) for message in read(len(expected))]
    assert sorted(found) == sorted(expected)


BUSY_FORKS = """
import os, sys, threading
sys.path[:0] = {path!r}
from taskbridge.adapters.kafka.producer import ConfirmedProducer
from taskbridge.record import Record
from tests.unit.taskbridge.adapters.kafka.conftest import configured

confirmed = ConfirmedProducer(configured({bootstrap!r}))
stop, published = threading.Event(), []

def publish():
    while not stop.is_set():
        confirmed.publish("taskbridge.orders", Record(b"thread", b"v"))
        assert confirmed.end([confirmed.begin("taskbridge.orders", Record(b"thread", b"v"))]) == [None]
        published.append(1)

threads = [threading.Thread(target=publish) for _ in range(3)]
for thread in threads:
    thread.start()
statuses = []
for number in range(6):
    before = len(published)
    child = os.fork()
    if child == 0:
        confirmed.publish("taskbridge.orders", Record(b"busy-child", b"%d confirmed" % number))
        # Nobody waits for this one: the end of the process has to.
        confirmed.begin("taskbridge.orders", Record(b"busy-child", b"%d begun" % number))
        stop.set()
        sys.exit(0)
    statuses.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    while len(published) == before:
        threads[0].join(0.01)
stop.set()
for thread in threads:
    thread.join()
sys.exit(0 if statuses == [0] * 6 else repr(statuses))
"""


def test_a_fork_while_other_threads_publish(mock_broker: str, consume: Callable[..., Any]) -> None:
    read = consume(LIVE)
    script = BUSY_FORKS.format(path=[str(Path(__file__).parents[5]), *sys.path], bootstrap=mock_broker)
    done = subprocess.run([sys.executable, "-c", script], timeout=90, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    found = [message.value() for message in read(100_000) if message.key() == b"busy-child"]
    assert sorted(found) == sorted(b"%d %s" % (n, what) for n in range(6) for what in (b"confirmed", b"begun"))


def test_what_nobody_waits_for_is_sent_soon_and_ended_together(confirmed: Any, consume: Callable[..., Any]) -> None:
    read = consume(LIVE)
    begun = [confirmed.begin(LIVE, Record(b"same", b"%d" % number)) for number in range(200)]
    assert [message.value() for message in read(200)] == [b"%d" % number for number in range(200)]
    assert confirmed.end(begun) == [None] * 200
    assert confirmed.end(begun, 0.0) == [None] * 200


def test_an_end_that_may_not_wait_calls_the_rest_ambiguous(black_hole: str) -> None:
    confirmed = ConfirmedProducer(configured(black_hole, publish_timeout=30.0))
    began = time.monotonic()
    [outcome] = confirmed.end([confirmed.begin(LIVE, Record(b"k", b"v"))], 0.05)
    assert isinstance(outcome, PublishAmbiguous)
    assert time.monotonic() - began < 25
    confirmed._lingering.take()
