"""
How busy a worker is.

A scaler divides the rate of a worker by this share to learn what it could do at most. So it is the time in which
executors have work, decoding and all, and not only that in which tasks run; and a supervisor that cannot feed its
executors fast enough is busy although they are not. One that only looks whether there is work is not.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence

from taskbridge.worker.executors import Executor

WINDOW = 5
"""Measurements that the share is taken over."""
OWN_LEAST = 0.05
"""Share of its time below which the supervisor is not at work: it looks for work all the time, and that takes some."""


class Workload:
    """The share of the last measurements' time in which executors, or the supervisor itself, were at work."""

    def __init__(self, processes: int, cpu: Callable[[], float] = time.thread_time) -> None:
        """`cpu` returns the seconds of processor time of the thread that measures."""
        self._processes = processes
        self._cpu = cpu
        self._worked = 0.0
        self._marks: deque[tuple[float, float, float]] = deque(maxlen=WINDOW + 1)

    def measure(self, now: float, executors: Sequence[Executor]) -> float | None:
        """Return the share, 0 to 1 in hundredths, or None at the first call; `now` is monotonic."""
        self._worked += sum(executor.worked(now) for executor in executors)
        self._marks.append((now, self._worked, self._cpu()))
        (then, worked, cpu), (_, worked_now, cpu_now) = self._marks[0], self._marks[-1]
        if now <= then:
            return None
        share = (worked_now - worked) / self._processes / (now - then)
        own = (cpu_now - cpu) / (now - then)
        if own >= OWN_LEAST:
            share = max(share, own)
        return round(min(1.0, share), 2)
