"""
The loop that moves records from the log to executors and offsets back to the log.

The supervisor never runs a task and never waits for one, so a task may take hours while the group stays joined. An
executor's death costs the record that was running there, and nothing else: the records behind it go to the others.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from taskbridge.exceptions import BrokerUnavailable, ConfigurationError
from taskbridge.observation import Kind
from taskbridge.ports import ConfirmedPublisher, DeliveringObserver
from taskbridge.worker.batching import Estimator
from taskbridge.worker.buffer import Arrivals, Buffer, Lanes
from taskbridge.worker.channel import Verdict
from taskbridge.worker.entry import Entry, header, size_of
from taskbridge.worker.executors import Executor, ExecutorTarget, wait_for_news
from taskbridge.worker.letters import counted
from taskbridge.worker.lookout import Lookout
from taskbridge.worker.offsets import Offsets
from taskbridge.worker.rows import Rows
from taskbridge.worker.settling import Settlement
from taskbridge.worker.snapshot import Snapshot
from taskbridge.worker.source import Fetched, RecordSource

logger = logging.getLogger(__name__)

BUFFER_RECORDS = 2_000
"""Records that may wait in the supervisor; at this number it stops fetching."""

BUFFER_BYTES = 32 * 1024 * 1024
"""Bytes that may wait in the supervisor."""

COMMIT_INTERVAL = 0.2
"""Seconds between commits; what finished since the last one is run again after a crash of the whole worker."""

DELIVERY_TIMEOUT = 0.25
"""Seconds to wait, before a commit, for the observations of what it commits."""

DELIVER_AGAIN = 5.0
"""Seconds without waiting for observations after they could not be delivered."""

PAUSE_AFTER = 1.0
"""Seconds with a full buffer after which partitions are paused, so that polling can go on without fetching."""

BUSY_POLL = 0.002
IDLE_POLL = 0.1
"""Seconds to wait for records while executors are waiting for work, or nothing is going on."""

STOP_TIMEOUT = 5.0
"""Seconds for executors to end once they were asked to; then they are killed."""

START_FAILURES = 3
"""Executors that may die in a row before they were ready; then the worker gives up."""


@dataclass(frozen=True, slots=True)
class Options:
    """
    What a supervisor is to do. `kind` is `run` for the live role and `copy` for the shadow role.

    `ordered` runs the records of a key one at a time and in order.
    """

    service: str
    topic: str
    group: str
    dead_letter_topic: str
    source_name: str
    processes: int
    drain_timeout: float
    kind: Kind = "run"
    ordered: bool = False


class Supervisor:
    """
    One consumer and its executors.

    `run` returns after `stop` was called and running tasks have finished, or their time to drain is over.
    """

    def __init__(
        self,
        options: Options,
        source: RecordSource,
        publisher: ConfirmedPublisher,
        observer: DeliveringObserver,
        target: ExecutorTarget,
        executor_options: Any,
    ) -> None:
        self._options = options
        self._source = source
        self._target = target
        self._executor_options = executor_options
        self._executors: list[Executor] = []
        self._offsets = Offsets(source, options.topic, options.group)
        self._estimator = Estimator()
        self._buffer: Buffer = Lanes(self._estimator) if options.ordered else Arrivals(self._estimator)
        self._settlement = Settlement(publisher, options.topic, options.dead_letter_topic)
        self._observer = observer
        self._deliver_at = 0.0
        self._rows = Rows(observer, options.kind, options.service, options.source_name)
        self._commit_at = 0.0
        self._full_since = 0.0
        self._stopping = False
        self._hurried = False
        self._start_failures = 0
        self._lookout = Lookout(options.processes, self._offsets, self._buffer, self._settlement)
        self.finished = 0
        """Records that have ended since the start."""
        self.turned_at = time.monotonic()
        """When the loop last came round; like all that follows, any thread may read it."""
        self.joined = False
        """Whether the group has this member, also one that was given no partition."""

    @property
    def snapshot(self) -> Snapshot:
        """How the worker stood within the last second."""
        return self._lookout.snapshot

    def stop(self) -> None:
        """Ask `run` to finish what is running and to return; safe in a signal handler."""
        self._stopping = True

    def hurry(self) -> None:
        """Ask `run` to return without finishing; what is cut off stays uncommitted and runs again."""
        self._hurried = self._stopping = True

    def run(self, on_ready: Callable[[], None] = lambda: None) -> None:
        """
        Consume until stopped. `on_ready` is called once the group is being joined and the executors can work.

        Raises ConfigurationError when the topic is missing or the executors cannot start, BrokerUnavailable when
        Kafka cannot be reached at the start.
        """
        try:
            self._executors = [self._start_executor(number) for number in range(1, self._options.processes + 1)]
            while not self._stopping and not all(executor.ready for executor in self._executors):
                wait_for_news(self._executors, 0.5)
                self._serve()
                self.turned_at = time.monotonic()
            if not self._stopping:
                self._source.open(self._offsets.assign, self._on_revoked, self._on_lost)
                on_ready()
            while not self._stopping:
                self._step()
            self._drain()
        finally:
            self._end_executors()

    # The loop

    def _step(self) -> None:
        self._fetch()
        self._serve()
        self._hand_out()
        self._settle()
        self.turned_at = now = time.monotonic()
        self.joined = self.joined or self._source.joined()
        self._lookout.look(now, self._executors, self.finished)
        self._commit(now)

    def _fetch(self) -> None:
        now = time.monotonic()
        room = BUFFER_RECORDS - len(self._buffer)
        if room > 0 and self._buffer.size < BUFFER_BYTES:
            self._full_since = 0.0
            self._offsets.resume()
            for record in self._source.poll(self._patience(), room):
                self._accept(record)
            return
        # The buffer is full. For a moment that is no reason to tell the client, which drops what it has prefetched.
        self._full_since = self._full_since or now
        if now - self._full_since < PAUSE_AFTER:
            wait_for_news(self._executors, BUSY_POLL)
            return
        self._offsets.pause()
        for record in self._source.poll(0.0, 1):
            self._accept(record)
        wait_for_news(self._executors, IDLE_POLL)

    def _patience(self) -> float:
        """Return how long to wait for records: not at all while an executor could be given some."""
        if self._buffer.ready:
            return 0.0 if any(executor.wants() for executor in self._executors) else BUSY_POLL
        busy = any(executor.held for executor in self._executors)
        return BUSY_POLL if busy else IDLE_POLL

    def _accept(self, record: Fetched) -> None:
        partition, offset, key, value, headers, written = record
        tracker = self._offsets.fetched(partition, offset, written)
        if tracker is None:
            return
        entry = Entry(tracker, partition, offset, key, value, headers, header(headers, "task"), size_of(value, headers))
        self._buffer.add(entry)

    def _withdraw(self) -> None:
        """Take back what waits behind long tasks while another executor is free."""
        if not any(executor.idle for executor in self._executors):
            return
        now = time.time()
        for executor in self._executors:
            if executor.held_up(now):
                self._buffer.put_back(executor.withdraw())

    def _hand_out(self) -> None:
        self._withdraw()
        for executor in sorted(self._executors, key=lambda one: one.batches):
            if not self._buffer.ready:
                return
            if executor.wants():
                entries = self._buffer.take(busy=executor.batches > 0)
                if entries:
                    self._give(executor, entries)

    def _give(self, executor: Executor, entries: Sequence[Entry]) -> None:
        try:
            executor.give(entries)
        except OSError:
            # It died in this moment; `_serve` finds the entries in its wreck.
            logger.debug("executor %d died while it was given work", executor.number)

    def _serve(self) -> None:
        """Take in what executors have done; bury the dead."""
        now = time.monotonic()
        for index, executor in enumerate(self._executors):
            alive = executor.alive
            self._rows.add(executor.receive())
            for ending in executor.ended():
                if ending.verdict is None:
                    self._buffer.ended(ending.entry)
                    self._finish(ending.entry)
                    seconds = ending.finished - ending.started
                    self._estimator.learn(ending.entry.task, seconds)
                    self._lookout.tally.ended(ending.entry.task, ending.outcome, seconds)
                elif self._options.ordered and ending.verdict.action == "requeue":
                    self._repeat(ending.entry, executor)
                else:
                    self._dispose(ending.entry, ending.verdict)
            executor.enforce_limits(now)
            if not alive:
                self._executors[index] = self._replace(executor)
        self._rows.flush(all_of_them=not self._buffer)

    def _repeat(self, entry: Entry, executor: Executor) -> None:
        """Have a record run again in its place, rather than at the end of its topic: order is kept for its key."""
        entry.headers, entry.obituary = counted(entry), None
        self._buffer.put_back([entry, *executor.withdraw()])

    def _dispose(self, entry: Entry, verdict: Verdict) -> None:
        self._buffer.ended(entry)
        self._settlement.add(entry, verdict)

    def _finish(self, entry: Entry) -> None:
        entry.tracker.finish(entry.offset)
        self.finished += 1

    # Executors

    def _start_executor(self, number: int) -> Executor:
        return Executor(number, self._target, self._executor_options)

    def _replace(self, executor: Executor) -> Executor:
        if executor.failure:
            raise ConfigurationError(executor.failure)
        self._start_failures = 0 if executor.ready else self._start_failures + 1
        if self._start_failures >= START_FAILURES:
            raise ConfigurationError(
                f"{START_FAILURES} executors in a row died while they loaded the application"
                f" (exit status {executor.process.exitcode}); see the log above for why"
            )
        self._bury(executor)
        executor.join(0)
        return self._start_executor(executor.number)

    def _bury(self, executor: Executor) -> None:
        self._tell_of(executor)
        running, waiting, obituary = executor.wreck()
        if running is not None:
            self._lookout.tally.deaths[obituary.cause] += 1
            logger.error(
                "executor %d (pid %s) died (%s, exit status %d) while it ran %s at partition %d offset %d",
                executor.number,
                executor.process.pid,
                obituary.cause,
                obituary.exitcode,
                running.task,
                running.partition,
                running.offset,
            )
            if running.obituary is None:
                running.obituary = obituary
                waiting.insert(0, running)
            else:
                # Recording the failure itself kills executors: that must not go on for ever.
                detail = "an executor died while it recorded the failure"
                self._dispose(running, Verdict(-1, "dead", "worker_lost", detail, ""))
                self._rows.reconstruct(running, "dead", 0.0, 0.0, "worker_lost")
        self._buffer.put_back(waiting)

    def _end_executors(self) -> None:
        for executor in self._executors:
            executor.stop()
        deadline = time.monotonic() + (0.0 if self._hurried else STOP_TIMEOUT)
        for executor in self._executors:
            executor.join(max(0.0, deadline - time.monotonic()))
        self._executors = []

    def _settle(self) -> None:
        for entry in self._settlement.settle(time.monotonic()):
            self._finish(entry)

    # Offsets

    def _commit(self, now: float, wait: bool = False, only: Sequence[int] | None = None) -> None:
        if now < self._commit_at and not wait:
            return
        self._commit_at = now + COMMIT_INTERVAL
        positions = self._offsets.uncommitted(only)
        if positions:
            self._deliver_observations(now)
            self._offsets.commit(positions, wait)

    def _deliver_observations(self, now: float) -> None:
        """
        See that what is about to be committed is observed first.

        Otherwise a worker that is killed in between would have run tasks of which nobody knows.
        """
        for executor in self._executors:
            self._tell_of(executor)
        self._rows.flush(all_of_them=True)
        if now >= self._deliver_at and not self._observer.deliver(DELIVERY_TIMEOUT):
            self._deliver_at = time.monotonic() + DELIVER_AGAIN

    def _tell_of(self, executor: Executor) -> None:
        """Observe what has ended in an executor that has not told of it yet, or cannot any more."""
        if self._options.kind == "copy":
            # What became of a copy only its executor knows.
            return
        for ending in executor.take_unreported():
            self._rows.reconstruct(ending.entry, ending.outcome, ending.started, ending.finished)

    # The group

    def _on_revoked(self, partitions: Sequence[int]) -> None:
        """Finish what runs of these partitions, then commit: who has them next begins where we ended."""
        self._buffer.forget(set(partitions))
        deadline = time.monotonic() + self._options.drain_timeout
        while self._holds(partitions) and time.monotonic() < deadline and not self._hurried:
            wait_for_news(self._executors, 0.05)
            self._serve()
            self._settle()
            self.turned_at = time.monotonic()
            # What a dead executor leaves waiting came back to the buffer and is not ours any more; an obituary is.
            self._buffer.forget(set(partitions))
            self._hand_out()
        try:
            self._commit(time.monotonic(), wait=True, only=partitions)
        except BrokerUnavailable as error:
            logger.warning("what finished in partitions %s since the last commit will run again: %s", partitions, error)
        self._offsets.drop(partitions)

    def _on_lost(self, partitions: Sequence[int]) -> None:
        logger.warning(
            "partitions %s were taken from this worker, which Kafka had not heard of for too long;"
            " what ran here may run twice",
            partitions,
        )
        self._buffer.forget(set(partitions))
        self._offsets.drop(partitions)

    def _holds(self, partitions: Sequence[int]) -> bool:
        mine = set(partitions)
        held = (entry for executor in self._executors for _, entry in executor.held)
        unsettled = self._settlement.waiting()
        return any(entry.partition in mine for group in (held, unsettled, self._buffer) for entry in group)

    def _drain(self) -> None:
        """Leave the group: that revokes every partition, which waits for what is running and commits."""
        logger.warning("stopping: what is running has %g s to finish", self._options.drain_timeout)
        self._source.close()
        self._serve()
        self._rows.flush(all_of_them=True)
