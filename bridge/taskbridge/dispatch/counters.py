"""How many messages took which road, for metrics and for people."""

from __future__ import annotations

from collections import defaultdict
from threading import Lock
from typing import Literal

from taskbridge.dispatch.forks import call_in_child

Counting = Literal[
    "celery",
    "kafka",
    "delayed",
    "outbox",
    "barrier",
    "copy_sent",
    "copy_lost",
    "refused",
    "ambiguous",
    "breaker",
    "unsupported",
    "queued",
    "unfenced",
]
"""
What is counted per service: the road taken (`celery`, `kafka`, `delayed`, `outbox`), copies, and why a road was left.

`delayed` and `outbox` are rows that were written and certainly not published before. `barrier` are publishes to Kafka
that nobody waited for at dispatch; each counts under its road when it has ended.

In ordered services `queued` are messages that wait in the outbox for their turn, and `unfenced` those that went out
without knowing their turn, because the database could not be asked.

A message that falls back to Celery counts under its reason and under `celery`. One whose publish is `ambiguous` counts
there and under `kafka`, since it will only ever run there.
"""


class Counters:
    """Counts of one process since it began; safe to read and to add to from any thread."""

    def __init__(self) -> None:
        self._begin()
        call_in_child(self._begin)

    def _begin(self) -> None:
        self._lock = Lock()
        self._counts: defaultdict[tuple[str, Counting], int] = defaultdict(int)

    def add(self, service: str, *what: Counting) -> None:
        """Count one more of each."""
        with self._lock:
            for one in what:
                self._counts[service, one] += 1

    def add_many(self, service: str, what: Counting, number: int) -> None:
        """Count `number` more."""
        with self._lock:
            self._counts[service, what] += number

    def get(self, service: str, what: Counting) -> int:
        """Return one count."""
        with self._lock:
            return self._counts.get((service, what), 0)

    def snapshot(self) -> dict[str, dict[str, int]]:
        """Return all counts that are not zero, by service."""
        with self._lock:
            counts = dict(self._counts)
        services: dict[str, dict[str, int]] = {}
        for (service, what), number in sorted(counts.items()):
            services.setdefault(service, {})[what] = number
        return services
