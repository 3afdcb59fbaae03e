"""Workers of both sides, a step at a time: those of Kafka with the product's own offsets, buffers and letters."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence

from taskbridge.exceptions import BrokerUnavailable
from taskbridge.record import decode
from taskbridge.worker.batching import Estimator
from taskbridge.worker.buffer import Arrivals, Buffer, Lanes
from taskbridge.worker.channel import Obituary
from taskbridge.worker.entry import Entry, size_of
from taskbridge.worker.letters import counted, given_back
from taskbridge.worker.offsets import Offsets
from taskbridge.worker.source import Assigned, Fetched
from taskbridge.worker.tracker import decode_runs
from tests.unit.machine.journal import Journal, Run
from tests.unit.machine.servers import PARTITIONS, Begun, Celery, Kafka

EXECUTORS = 2


class Group:
    """The consumer group of a topic, as the broker keeps it."""

    def __init__(self, kafka: Kafka, topic: str, journal: Journal, ordered: bool) -> None:
        self.kafka = kafka
        self.topic = topic
        self.journal = journal
        self.ordered = ordered
        self.committed: dict[int, tuple[int, str]] = dict.fromkeys(range(PARTITIONS), (0, ""))
        self.members: list[Worker] = []
        self.started: set[tuple[int, int]] = set()

    def finished(self, partition: int, offset: int) -> bool:
        """Return whether the group knows that a record is finished."""
        position, metadata = self.committed[partition]
        return offset < position or any(low <= offset < high for low, high in decode_runs(position, metadata))

    def unfinished(self, ends: Mapping[int, int]) -> int:
        """Return how many records before `ends` the group does not know to be finished."""
        return sum(not self.finished(number, offset) for number, end in ends.items() for offset in range(end))

    def ends(self) -> dict[int, int]:
        """Return the end offsets."""
        return {number: len(records) for number, records in enumerate(self.kafka.topics[self.topic])}

    def join(self) -> Worker:
        """Add a member."""
        worker = Worker(self)
        self.members.append(worker)
        self.rebalance()
        return worker

    def rebalance(self, gently: bool = True) -> None:
        """Share the partitions out anew; unless `gently`, whoever loses one is not asked to finish first."""
        wanted = {number: self.members[number % len(self.members)] for number in range(PARTITIONS)}
        for worker in self.members:
            gone = [number for number in worker.positions if wanted[number] is not worker]
            if gone:
                worker.give_up(gone, gently)
        for number, worker in wanted.items():
            if number not in worker.positions:
                worker.assign(number, *self.committed[number])

    def leave(self, worker: Worker, gently: bool) -> None:
        """Let a member go, or die, and another one come."""
        if gently:
            worker.give_up(list(worker.positions), gently)
        else:
            worker.die()
        self.members.remove(worker)
        self.join()


class _Source:
    """The part of a RecordSource that offsets need."""

    def __init__(self, group: Group) -> None:
        self._group = group

    def commit(self, offsets: Mapping[int, tuple[int, str]], wait: bool) -> None:
        if self._group.kafka.away:
            raise BrokerUnavailable("Kafka is away")
        self._group.committed.update(offsets)

    def failed_commits(self) -> set[int]:
        return set()

    def pause(self, partitions: Sequence[int]) -> None:
        raise AssertionError("so few records never fill the metadata")

    resume = pause


class Executor:
    """What one executor was given, in order, and its run of the first of it."""

    def __init__(self) -> None:
        self.held: deque[Entry] = deque()
        self.run: Run | None = None


class Worker:
    """A supervisor with two executors."""

    def __init__(self, group: Group) -> None:
        self.positions: dict[int, int] = {}
        self.executors = [Executor() for _ in range(EXECUTORS)]
        self._group = group
        self._offsets = Offsets(_Source(group), group.topic, "group")  # type: ignore[arg-type]
        self._buffer: Buffer = Lanes(Estimator()) if group.ordered else Arrivals(Estimator())
        self._letters: list[Entry] = []

    @property
    def busy(self) -> bool:
        """Whether anything was fetched and is not finished."""
        return bool(len(self._buffer) or self._letters or any(executor.held for executor in self.executors))

    def assign(self, partition: int, committed: int, metadata: str) -> None:
        """Take a partition."""
        self.positions[partition] = committed
        self._offsets.assign([Assigned(partition, committed, metadata)])

    def fetch(self) -> None:
        """Take in what is new, and hand it out."""
        if self._group.kafka.away:
            return
        for partition, position in self.positions.items():
            records = self._group.kafka.topics[self._group.topic][partition]
            for offset in range(position, len(records)):
                record = records[offset]
                self._accept(Fetched(partition, offset, record.key, record.value, record.headers))
            self.positions[partition] = len(records)
        self.hand_out()

    def _accept(self, one: Fetched) -> None:
        tracker = self._offsets.fetched(one.partition, one.offset)
        if tracker is None:
            return
        known = self._group.finished(one.partition, one.offset)
        assert not known, f"partition {one.partition} offset {one.offset} was committed and would run again"
        task = dict(one.headers)["task"].decode()
        size = size_of(one.value, one.headers)
        self._buffer.add(Entry(tracker, one.partition, one.offset, one.key, one.value, one.headers, task, size))

    def hand_out(self) -> None:
        """Give free executors something to do."""
        for executor in self.executors:
            if not executor.held and self._buffer.ready:
                executor.held.extend(self._buffer.take(busy=False))

    def start(self, number: int) -> None:
        """Let an executor begin with the first record that it has."""
        executor = self.executors[number]
        if not executor.held or executor.run is not None:
            return
        entry = executor.held[0]
        if entry.obituary is not None:
            self._bury(executor, entry)
            return
        place = entry.partition, entry.offset
        message, _ = decode(entry.value, entry.headers)
        explained = place in self._group.started or entry.deliveries > 0
        executor.run = self._group.journal.start(message.task_id, "kafka", explained)
        if executor.run is not None:
            self._group.started.add(place)

    def finish(self, number: int) -> None:
        """Let an executor end what it is at."""
        executor = self.executors[number]
        run, executor.run = executor.run, None
        if run is not None and self._group.journal.finish(run):
            self._ended(executor)

    def _ended(self, executor: Executor) -> None:
        entry = executor.held.popleft()
        self._buffer.ended(entry)
        entry.tracker.finish(entry.offset)
        self.hand_out()

    def kill(self, number: int) -> None:
        """End an executor in the middle of what it is at."""
        executor = self.executors[number]
        if executor.run is not None:
            self._group.journal.abort(executor.run)
            executor.held[0].obituary = Obituary("lost", -9)
        self._buffer.put_back(list(executor.held))
        executor.held.clear()
        executor.run = None
        self.hand_out()

    def _bury(self, executor: Executor, entry: Entry) -> None:
        """Have a record run again whose executor died, as `task_reject_on_worker_lost` asks for."""
        if self._group.ordered:
            entry.headers, entry.obituary = counted(entry), None
            self._buffer.put_back(list(executor.held))
        else:
            self._buffer.ended(entry)
            self._letters.append(entry)
            executor.held.popleft()
            self._buffer.put_back(list(executor.held))
        executor.held.clear()
        self.hand_out()

    def settle(self) -> None:
        """Publish what is to run again, then pass it."""
        for entry in list(self._letters):
            begun = Begun(self._group.topic, given_back(entry))
            if entry.tracker.active:
                self._group.kafka.deliver(begun)
            if begun.error is None:
                entry.tracker.finish(entry.offset)
                self._letters.remove(entry)

    def commit(self) -> None:
        """Tell the group how far this worker is; raise BrokerUnavailable."""
        self.settle()
        positions = self._offsets.uncommitted()
        if positions:
            self._offsets.commit(positions, wait=True)

    def run_all(self, still: Callable[[], bool] = lambda: True) -> None:
        """Run and finish what is there, while `still`."""
        for _ in range(200):
            if not still():
                return
            for number in range(EXECUTORS):
                self.start(number)
                self.finish(number)
            self.hand_out()

    def give_up(self, partitions: Sequence[int], gently: bool) -> None:
        """Lose partitions: with what runs there ended and committed, or not."""
        self._buffer.forget(set(partitions))
        if gently:
            self.run_all(lambda: any(executor.held for executor in self.executors))
            self.settle()
            if not self._group.kafka.away:
                self._offsets.commit(self._offsets.uncommitted(partitions), wait=True)
        self._offsets.drop(partitions)
        for number in partitions:
            del self.positions[number]

    def die(self) -> None:
        """End at once."""
        for executor in self.executors:
            if executor.run is not None:
                self._group.journal.abort(executor.run)
        self._offsets.drop(list(self.positions))
        self.positions.clear()


class CeleryWorker:
    """A worker of Celery's with `acks_late`, one message at a time."""

    def __init__(self, name: str, celery: Celery, journal: Journal) -> None:
        self.name = name
        self._celery = celery
        self._journal = journal
        self._run: Run | None = None
        self._ran = False

    def step(self) -> None:
        """Fetch, begin, end or acknowledge, whichever is next."""
        if self._celery.climate == "away":
            return
        delivery = self._celery.unacknowledged.get(self.name)
        if delivery is None:
            if self._celery.queue:
                self._celery.unacknowledged[self.name] = self._celery.queue.popleft()
        elif self._ran:
            del self._celery.unacknowledged[self.name]
            self._ran = False
        elif self._run is None:
            self._run = self._journal.start(delivery.message.task_id, "celery", delivery.redelivered > 0)
        else:
            self._ran = self._journal.finish(self._run)
            self._run = None

    def die(self) -> None:
        """End at once; another worker of this name comes."""
        if self._run is not None:
            self._journal.abort(self._run)
        self._run, self._ran = None, False
        self._celery.lose(self.name)
