"""
What workers, relays and dispatchers know, as values of metrics.

What is counted by a word that can be known beforehand is there from the start, at zero: an alert on an increase would
else miss the first one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

from taskbridge.adapters.monitoring import families
from taskbridge.adapters.monitoring.families import Family
from taskbridge.dispatch import Counting
from taskbridge.relay.batch import ROADS
from taskbridge.relay.loop import DATABASE, FENCES, Relay
from taskbridge.relay.rows import Side
from taskbridge.worker.executors import STATES
from taskbridge.worker.snapshot import DURATION_BOUNDS, Snapshot

REASONS = ("malformed", "unknown_task", "rejected", "worker_lost", "deliveries_exceeded", "unrecorded")
"""Reasons for dead letters."""

CAUSES = ("lost", "timeout")
"""How an executor dies."""

SERVERS = {DATABASE: "database", ROADS["kafka"]: "kafka", ROADS["celery"]: "celery", FENCES: "fences"}
"""What a relay needs, as people call it, and as a label does."""

_MESSAGES: tuple[Counting, ...] = ("celery", "kafka", "delayed", "outbox")
_COPIES: Mapping[Counting, str] = {"copy_sent": "sent", "copy_lost": "lost"}
_DETOURS: tuple[Counting, ...] = ("refused", "breaker", "unsupported", "ambiguous")
_ALONE: Mapping[Counting, Family] = {
    "barrier": families.DISPATCH_BARRIER,
    "queued": families.DISPATCH_QUEUED,
    "unfenced": families.DISPATCH_UNFENCED,
}


class Distribution(NamedTuple):
    """Value of a histogram: how many stood at or below each bound (the last bound is infinite), and their sum."""

    buckets: tuple[tuple[float, int], ...]
    total: float


class Sample(NamedTuple):
    """One value of one metric; labels in the order of its family."""

    family: Family
    labels: tuple[str, ...]
    value: float | Distribution


@dataclass(frozen=True, slots=True)
class Pending:
    """Rows of one service that wait in one table of the relay; `oldest` is in seconds, and 0 when none is due."""

    table: str
    service: str
    rows: int
    oldest: float


def of_worker(service: str, role: str, joined: bool, snapshot: Snapshot) -> Iterator[Sample]:
    """Yield the metrics of a worker."""
    own = (service, role)
    plain: tuple[tuple[Family, float], ...] = (
        (families.WORKER_JOINED, joined),
        (families.WORKER_RECORDS, snapshot.finished),
        (families.WORKER_GIVEN_BACK, snapshot.given_back),
        (families.WORKER_UNSETTLED, snapshot.unsettled),
        (families.WORKER_BUFFERED, snapshot.buffered),
        (families.WORKER_BUFFERED_BYTES, snapshot.buffered_bytes),
        (families.WORKER_HELD, snapshot.held),
        (families.WORKER_PARTITIONS, len(snapshot.partitions)),
        (families.WORKER_PAUSED, sum(one.paused for one in snapshot.partitions)),
        (families.WORKER_COMMITS, snapshot.commits),
        (families.WORKER_FAILED_COMMITS, snapshot.failed_commits),
        (families.WORKER_BUSY, snapshot.busy),
    )
    for family, value in plain:
        yield Sample(family, own, float(value))
    seconds: dict[str, float] = {}
    for (task, outcome), run in snapshot.runs.items():
        yield Sample(families.WORKER_TASKS, (*own, task, outcome), run.count)
        seconds[task] = seconds.get(task, 0.0) + run.seconds
    for task, total in seconds.items():
        yield Sample(families.WORKER_RUN_SECONDS, (*own, task), total)
    below = zip((*DURATION_BOUNDS, float("inf")), accumulate(snapshot.durations), strict=True)
    yield Sample(families.WORKER_DURATION, own, Distribution(tuple(below), sum(seconds.values())))
    yield from _by_word(families.WORKER_DEAD_LETTERS, own, REASONS, snapshot.dead_letters)
    yield from _by_word(families.WORKER_EXECUTORS, own, STATES, snapshot.executors)
    yield from _by_word(families.WORKER_DEATHS, own, CAUSES, snapshot.deaths)
    for one in snapshot.partitions:
        if one.lag is not None:
            yield Sample(families.WORKER_LAG, (*own, str(one.partition)), one.lag)
        yield Sample(families.WORKER_BEHIND, (*own, str(one.partition)), one.behind)


def of_relay(database: str, relay: Relay, pending: Iterable[Pending]) -> Iterator[Sample]:
    """Yield the metrics of a relay's loop over one database."""
    own = (database,)
    sent: dict[Side, int] = {"celery": relay.totals.celery, "kafka": relay.totals.kafka}
    for road, count in sent.items():
        yield Sample(families.RELAY_MESSAGES, (*own, road), count)
    for one in pending:
        labels = (*own, one.table, one.service)
        yield Sample(families.RELAY_PENDING, labels, one.rows)
        yield Sample(families.RELAY_OLDEST, labels, one.oldest)
    trouble = relay.trouble
    for what, server in SERVERS.items():
        yield Sample(families.RELAY_FAILURES, (*own, server), relay.failures[what])
        yield Sample(families.RELAY_TROUBLE, (*own, server), float(what in trouble))


def of_dispatch(services: Collection[str], counts: Mapping[str, Mapping[str, int]]) -> Iterator[Sample]:
    """Yield the metrics of a dispatcher, whose counters' snapshot `counts` is."""
    for service in services:
        known = counts.get(service, {})
        for what in _MESSAGES:
            yield Sample(families.DISPATCH_MESSAGES, (service, what), known.get(what, 0))
        for what, fate in _COPIES.items():
            yield Sample(families.DISPATCH_COPIES, (service, fate), known.get(what, 0))
        for what in _DETOURS:
            yield Sample(families.DISPATCH_DETOURS, (service, what), known.get(what, 0))
        for what, family in _ALONE.items():
            yield Sample(family, (service,), known.get(what, 0))


def of_losses(topics: Collection[str], lost: Mapping[str, int]) -> Iterator[Sample]:
    """Yield how many copies and observations were lost."""
    for topic in sorted({*topics, *lost}):
        yield Sample(families.LOST, (topic,), lost.get(topic, 0))


def _by_word(
    family: Family, own: tuple[str, ...], words: Collection[str], counts: Mapping[str, int]
) -> Iterator[Sample]:
    for word in sorted({*words, *counts}):
        yield Sample(family, (*own, word), counts.get(word, 0))
