"""
Executor processes, seen from the supervisor.

Executors are forked from a fork server that has loaded the application once and never touches Kafka: forking a process
in which librdkafka runs would copy its locks without its threads.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from types import ModuleType
from typing import Any, Literal, NamedTuple, get_args

from taskbridge.observation import Outcome
from taskbridge.worker.channel import STOP, Obituary, Report, Verdict, WorkItem, dump_batch, load_report
from taskbridge.worker.entry import Entry
from taskbridge.worker.rows import OUTCOMES
from taskbridge.worker.slots import ATTENTION, DONE, EMPTY, RUNNING, SIZE, SLOTS, SlotTable

PREFETCH_BYTES = 96 * 1024
"""
Most bytes sent to an executor that is busy.

They must fit the pipe's buffer, or the supervisor would hang until a long task ends.
"""

PATIENCE = 0.1
"""
Seconds after which a running task is a long one.

Its executor is given nothing more, and what waits behind it goes to others that are free.
"""

LOCK_TIMEOUT = 0.1
"""Seconds to wait for an executor's lock; it is only ever held for microseconds, unless its holder was killed."""

EXECUTOR = "executor-"
"""What the names of executor processes begin with; their numbers follow, which successors take over."""

ExecutorTarget = Callable[[Connection, Any, Any, Any], None]
"""What runs in an executor process: (pipe, shared memory, its lock, options)."""


State = Literal["starting", "idle", "busy"]

STATES: tuple[State, ...] = get_args(State)


class Ending(NamedTuple):
    """A record that has ended: what the supervisor still has to do (if anything), and when it ran."""

    entry: Entry
    verdict: Verdict | None
    outcome: Outcome
    started: float
    finished: float


class Executor:
    """One executor process and the records it holds, in the order in which it will run them."""

    def __init__(self, number: int, target: ExecutorTarget, options: Any) -> None:
        """Start the process; `options` is handed to `target` as it is and must survive being sent there."""
        context = get_context("forkserver")
        self.number = number
        self._memory = context.RawArray(ctypes.c_char, SIZE)
        self.table = SlotTable(self._memory)
        self._lock = context.Lock()
        self.connection, theirs = context.Pipe()
        # Not a daemon process: tasks may start processes of their own. Should the supervisor be killed, the executor
        # dies with the fork server (a parent-death signal, as in Celery's own pool).
        self.process = context.Process(
            target=target, args=(theirs, self._memory, self._lock, options), name=f"{EXECUTOR}{number}", daemon=False
        )
        with _main_module_hidden():
            self.process.start()
        theirs.close()
        self.held: deque[tuple[int, Entry]] = deque()
        self.unreported: deque[Ending] = deque()
        self.ready = False
        self.failure = ""
        self.batches = 0
        self.overran = False
        self.started_at = time.monotonic()
        self._verdicts: dict[int, Verdict] = {}
        self._next_slot = 0
        self._soft_sent_for = 0.0
        self._reported = 0
        self._told_already = 0
        self._worked = 0.0

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self.process.is_alive()

    @property
    def idle(self) -> bool:
        """Whether it waits for work."""
        return self.ready and not self.held and not self.batches

    @property
    def state(self) -> State:
        """What it does at the moment."""
        if not self.ready:
            return "starting"
        return "idle" if self.idle else "busy"

    def worked(self, now: float) -> float:
        """Return the seconds in which it was at work since the last call; `now` is monotonic."""
        before, self._worked = self._worked, self.table.worked(now)
        return max(0.0, self._worked - before)

    def wants(self) -> bool:
        """Whether it may be given a batch: it is idle, or has begun its only one and is not held up by a long task."""
        if not self.ready:
            return False
        if not self.batches:
            return True
        return (
            self.batches == 1
            and bool(self.held)
            and self.table.state(self.held[0][0]) != EMPTY
            and not self.held_up(time.time())
        )

    def held_up(self, now: float) -> bool:
        """Whether it has been running one record for long; `now` is seconds since the epoch."""
        if not self.held:
            return False
        slot, _ = self.held[0]
        return self.table.state(slot) == RUNNING and now - self.table.times(slot)[0] > PATIENCE

    def withdraw(self) -> list[Entry]:
        """Take back, in order, what has not begun."""
        if not self.held or self.table.state(self.held[-1][0]) != EMPTY:
            return []
        if not self._lock.acquire(timeout=LOCK_TIMEOUT):
            return []
        try:
            taken: list[Entry] = []
            while self.held and self.table.state(self.held[-1][0]) == EMPTY:
                slot, entry = self.held.pop()
                self.table.withdraw(slot)
                taken.insert(0, entry)
            return taken
        finally:
            self._lock.release()

    def give(self, entries: Sequence[Entry]) -> None:
        """Send a batch; raise BrokenPipeError when the executor has died."""
        items = []
        for entry in entries:
            slot = self._next_slot
            self._next_slot = (slot + 1) % SLOTS
            self.table.clear(slot)
            self.held.append((slot, entry))
            items.append(WorkItem(slot, entry.value, entry.headers, entry.partition, entry.offset, entry.obituary))
        self.batches += 1
        self.connection.send_bytes(dump_batch(items))

    def receive(self) -> list[tuple[Any, ...]]:
        """Take in what the executor has told; return rows for the observations."""
        rows: list[tuple[Any, ...]] = []
        try:
            while self.connection.poll():
                report = load_report(self.connection.recv_bytes())
                self._take(report)
                known = min(self._told_already, len(report.rows))
                self._told_already -= known
                rows += report.rows[known:]
                self._reported += len(report.rows) - known
        except (EOFError, OSError):
            # The process is gone; `alive` tells the supervisor.
            return rows
        return rows

    def _take(self, report: Report) -> None:
        self.ready = self.ready or report.ready
        self.failure = report.failure or self.failure
        for verdict in report.verdicts:
            self._verdicts[verdict.slot] = verdict
        if report.finished:
            self.batches -= 1

    def ended(self) -> list[Ending]:
        """Return the records that have ended since the last call."""
        endings = []
        while self.held:
            slot, entry = self.held[0]
            state = self.table.state(slot)
            verdict = None
            if state == ATTENTION:
                verdict = self._verdicts.pop(slot, None)
                if verdict is None:
                    break
            elif state < DONE:
                break
            self.held.popleft()
            outcome = OUTCOMES[state - DONE] if state >= DONE else "dead"
            ending = Ending(entry, verdict, outcome, *self.table.times(slot))
            endings.append(ending)
            self.unreported.append(ending)
        while self._reported and self.unreported:
            self.unreported.popleft()
            self._reported -= 1
        return endings

    def take_unreported(self) -> list[Ending]:
        """Return, once, the records that have ended and that the executor has not told of; its own rows are dropped."""
        endings = list(self.unreported)
        self.unreported.clear()
        self._told_already += len(endings)
        return endings

    def enforce_limits(self, now: float) -> None:
        """Signal the soft limit, kill at the hard one; `now` is monotonic."""
        soft, hard = self.table.deadlines()
        if hard and now >= hard and not self.overran:
            self.overran = True
            self.process.kill()
        elif soft and now >= soft and soft != self._soft_sent_for:
            self._soft_sent_for = soft
            os.kill(self.process.pid or 0, signal.SIGUSR1)

    def wreck(self) -> tuple[Entry | None, list[Entry], Obituary]:
        """
        Return what a dead executor leaves: the record that was running, those that merely waited, and how it died.

        Call it once `receive` and `ended` have been called after the death.
        """
        running = None
        waiting = [entry for _, entry in self.held]
        if self.held and self.table.state(self.held[0][0]) != EMPTY:
            running = waiting.pop(0)
        self.held.clear()
        exitcode = self.process.exitcode or 0
        return running, waiting, Obituary("timeout" if self.overran else "lost", exitcode)

    def stop(self) -> None:
        """Ask the executor to end once its batch is done."""
        try:
            self.connection.send_bytes(STOP)
        except OSError:
            return

    def join(self, timeout: float) -> None:
        """Wait for the process to end, killing it after `timeout` seconds, and free its resources."""
        self.process.join(timeout)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.connection.close()
        self.process.close()


@contextmanager
def _main_module_hidden() -> Iterator[None]:
    """
    Keep a new process from importing our main script again.

    `multiprocessing` does that to find functions defined there; ours never are, and the script may be anybody's.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def wait_for_news(executors: Sequence[Executor], timeout: float) -> None:
    """Return when an executor has something to tell or has died, or after `timeout` seconds."""
    wait([source for one in executors for source in (one.connection, one.process.sentinel)], timeout)
