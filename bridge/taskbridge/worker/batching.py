"""
How many records an executor is given at once.

A record in an executor's pipe cannot be taken back, so it waits for those before it. Batches are therefore measured in
seconds of work, by what each task has taken so far: hundreds of quick tasks, or a single slow one.
"""

from __future__ import annotations

from collections.abc import Iterable

TARGET = 0.02
"""Seconds of work in a batch: long beside the cost of handing it over, short beside what a person notices."""

MOST = 256
"""Records in a batch, at most."""

UNKNOWN = TARGET
"""Seconds that a task is taken to last before it was ever seen: its first record goes alone."""

WEIGHT = 0.2
"""Of the newest duration in the moving average."""


class Estimator:
    """
    Remembers how long each task takes: an exponentially weighted moving average.

    One slow call on a busy machine shortens the next batches by some records, and as these are quick, the batches after
    them are long again.
    """

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}

    def learn(self, task: str, seconds: float) -> None:
        """Take one more duration into account."""
        known = self._seconds.get(task)
        self._seconds[task] = seconds if known is None else known + WEIGHT * (seconds - known)

    def seconds(self, task: str) -> float:
        """Return how long the next call of `task` is expected to take."""
        return self._seconds.get(task, UNKNOWN)

    def batch(self, tasks: Iterable[str]) -> int:
        """Return how many of the waiting records, whose tasks are given in order, make up one batch."""
        total = 0.0
        count = 0
        for task in tasks:
            total += self._seconds.get(task, UNKNOWN)
            if count and total > TARGET:
                break
            count += 1
            if count == MOST:
                break
        return count
