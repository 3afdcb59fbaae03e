"""Counts of what executors did."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter

from taskbridge.worker.snapshot import DURATION_BOUNDS, Run

MOST_TASKS = 2_000
"""Pairs of task and outcome that are told apart; names in records that nobody checked must not fill the memory."""

QUICK = DURATION_BOUNDS[0]

OTHERS = "(others)"
"""The task under which the rest is counted."""


class Tally:
    """Counts since the start; `ended` is called for every record, so it does next to nothing."""

    def __init__(self) -> None:
        self.deaths: Counter[str] = Counter()
        self._runs: dict[tuple[str, str], list[float]] = {}
        self._durations = [0] * (len(DURATION_BOUNDS) + 1)

    def ended(self, task: str, outcome: str, seconds: float) -> None:
        """Count a task that has ended."""
        run = self._runs.get((task, outcome)) or self._begin(task, outcome)
        run[0] += 1
        # The clock may have been set back meanwhile.
        if seconds > 0:
            run[1] += seconds
        # Most of the tasks of a busy worker are that quick, and need no search.
        self._durations[0 if seconds <= QUICK else bisect_left(DURATION_BOUNDS, seconds)] += 1

    def _begin(self, task: str, outcome: str) -> list[float]:
        name = task if len(self._runs) < MOST_TASKS else OTHERS
        return self._runs.setdefault((name, outcome), [0, 0.0])

    def runs(self) -> dict[tuple[str, str], Run]:
        """Return how often each task ended in each way."""
        return {key: Run(int(count), seconds) for key, (count, seconds) in self._runs.items()}

    def durations(self) -> tuple[int, ...]:
        """Return how many tasks took as long as the bounds tell apart."""
        return tuple(self._durations)
