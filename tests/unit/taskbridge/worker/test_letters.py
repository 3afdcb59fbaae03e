"""Dead letters, and records that are given back."""

from __future__ import annotations

from typing import Any

from taskbridge.worker.channel import Verdict
from taskbridge.worker.letters import TRACEBACK_BYTES, dead_letter, given_back
from tests.unit.taskbridge.worker.entries import entry, headers


def test_a_dead_letter_is_the_record_itself_with_why_and_from_where() -> None:
    verdict = Verdict(3, "dead", "worker_lost", "its process ended while it ran", "Traceback: …")
    letter = dead_letter(entry(), verdict, "shop.orders", 1_700_000_000.12345)
    assert (letter.key, letter.value) == (b"a-key", b"[[], {}, {}]")
    assert letter.headers == [
        ("content-type", b"application/json"),
        ("content-encoding", b"utf-8"),
        ("task", b"orders.place"),
        ("id", b"id-1"),
        ("celery-headers", b'{"task": "orders.place", "id": "id-1", "retries": 0}'),
        ("celery-properties", b"{}"),
        ("dlq-reason", b"worker_lost"),
        ("dlq-detail", b"its process ended while it ran"),
        ("dlq-traceback", "Traceback: …".encode()),
        ("dlq-topic", b"shop.orders"),
        ("dlq-partition", b"2"),
        ("dlq-offset", b"5"),
        ("dlq-time", b"1700000000.123"),
    ]


def test_a_long_traceback_keeps_its_end_and_stays_text() -> None:
    verdict = Verdict(0, "dead", "rejected", "", "é" * TRACEBACK_BYTES + "ValueError: the end")
    raw = dict(dead_letter(entry(), verdict, "t", 0.0).headers)["dlq-traceback"]
    assert len(raw) <= TRACEBACK_BYTES + 2
    assert raw.decode().endswith("éValueError: the end")


def test_a_letter_of_a_record_that_nobody_can_read_can_still_be_written() -> None:
    found: Any = [("task", None), ("other", b"\xff")]
    letter = dead_letter(entry(value=None, headers=found), Verdict(0, "dead", "malformed", "x", ""), "t", 0.0)
    assert letter.value == b""
    assert letter.headers[:2] == [("task", b""), ("other", b"\xff")]


def test_what_is_given_back_counts_its_deliveries() -> None:
    first = given_back(entry())
    assert first.headers[-1] == ("bridge-deliveries", b"1")
    second = given_back(entry(headers=headers(bridge_deliveries="1")))
    assert [pair for pair in second.headers if pair[0] == "bridge-deliveries"] == [("bridge-deliveries", b"2")]
    assert (first.key, first.value) == (b"a-key", b"[[], {}, {}]")
