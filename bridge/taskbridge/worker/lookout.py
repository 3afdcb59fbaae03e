"""Takes a snapshot of a supervisor's parts, once a second, in the supervisor's own thread."""

from __future__ import annotations

from collections.abc import Sequence

from taskbridge.worker.buffer import Buffer
from taskbridge.worker.executors import STATES, Executor
from taskbridge.worker.offsets import Offsets
from taskbridge.worker.settling import Settlement
from taskbridge.worker.snapshot import Snapshot
from taskbridge.worker.tally import Tally
from taskbridge.worker.workload import Workload

INTERVAL = 1.0
"""Seconds between two snapshots."""


class Lookout:
    """Knows how the worker stood within the last second; `tally` is what it counts by."""

    def __init__(self, processes: int, offsets: Offsets, buffer: Buffer, settlement: Settlement) -> None:
        self.tally = Tally()
        self.snapshot = Snapshot()
        self._offsets = offsets
        self._buffer = buffer
        self._settlement = settlement
        self._workload = Workload(processes)
        self._next = 0.0

    def look(self, now: float, executors: Sequence[Executor], finished: int) -> None:
        """Take a snapshot if it is time, and have the busy fraction committed; `now` is monotonic."""
        if now < self._next:
            return
        self._next = now + INTERVAL
        busy = self._offsets.busy = self._workload.measure(now, executors)
        states = [executor.state for executor in executors]
        self.snapshot = Snapshot(
            finished=finished,
            runs=self.tally.runs(),
            durations=self.tally.durations(),
            executors={state: states.count(state) for state in STATES},
            deaths=dict(self.tally.deaths),
            buffered=len(self._buffer),
            buffered_bytes=self._buffer.size,
            held=sum(len(executor.held) for executor in executors),
            unsettled=len(self._settlement),
            dead_letters=dict(self._settlement.dead_letters),
            given_back=self._settlement.given_back,
            commits=self._offsets.commits,
            failed_commits=self._offsets.failed_commits,
            partitions=tuple(self._offsets.states()),
            busy=busy or 0.0,
        )
