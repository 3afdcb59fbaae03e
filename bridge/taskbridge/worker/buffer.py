"""Records that were fetched and wait for an executor: in the order of their arrival, or in that of their keys."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from typing import Protocol

from taskbridge.worker.batching import Estimator
from taskbridge.worker.entry import Entry
from taskbridge.worker.executors import PREFETCH_BYTES


class Buffer(Protocol):
    """What waits; `size` is about how many bytes that is."""

    size: int

    def __len__(self) -> int:
        """Return how many records wait."""
        ...

    def __iter__(self) -> Iterator[Entry]:
        """Yield what waits."""
        ...

    @property
    def ready(self) -> bool:
        """Whether something of it may be given to an executor now."""
        ...

    def add(self, entry: Entry) -> None:
        """Take a record that was fetched."""
        ...

    def take(self, busy: bool) -> list[Entry]:
        """Return the next batch for one executor; for one that is `busy`, no more bytes than its pipe may hold."""
        ...

    def put_back(self, entries: Sequence[Entry]) -> None:
        """Take back, ahead of all else, what was taken and did not end; what is not ours any more is dropped."""
        ...

    def ended(self, entry: Entry) -> None:
        """Hear that a record which was taken has ended."""
        ...

    def forget(self, partitions: Collection[int]) -> None:
        """Drop what waits of these partitions; a record whose executor died is still to be settled here."""
        ...


class Arrivals:
    """A Buffer in the order of arrival, whatever the key."""

    def __init__(self, estimator: Estimator) -> None:
        self.size = 0
        self._estimator = estimator
        self._waiting: deque[Entry] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._waiting)

    @property
    def ready(self) -> bool:
        """Whether anything waits."""
        return bool(self._waiting)

    def add(self, entry: Entry) -> None:
        """Take a record that was fetched."""
        self._waiting.append(entry)
        self.size += entry.size

    def take(self, busy: bool) -> list[Entry]:
        """Return the next batch."""
        count = self._estimator.batch(entry.task for entry in self._waiting)
        entries: list[Entry] = []
        size = 0
        while len(entries) < count:
            entry = self._waiting[0]
            size += entry.size
            if size > PREFETCH_BYTES and (entries or busy):
                break
            self.size -= entry.size
            entries.append(self._waiting.popleft())
        return entries

    def put_back(self, entries: Sequence[Entry]) -> None:
        """Take back what did not end."""
        for entry in reversed(entries):
            if entry.tracker.active:
                self._waiting.appendleft(entry)
                self.size += entry.size

    def ended(self, entry: Entry) -> None:
        """Do nothing: no record waits for another."""

    def forget(self, partitions: Collection[int]) -> None:
        """Drop what waits of these partitions."""
        self._waiting = deque(_kept(self._waiting, partitions))
        self.size = sum(entry.size for entry in self._waiting)


class _Lane:
    """The records of one key: those that wait, in order, and how many an executor has."""

    __slots__ = ("given", "waiting")

    def __init__(self) -> None:
        self.waiting: deque[Entry] = deque()
        self.given = 0


_Name = tuple[int, bytes | int]


class Lanes:
    """
    A Buffer that keeps the order of each key.

    All that is given out of a key at one time goes to one executor, in order; the rest follows when that has ended.
    A record whose executor died goes alone, since it may have to run again before those behind it.
    """

    def __init__(self, estimator: Estimator) -> None:
        self.size = 0
        self._estimator = estimator
        self._lanes: dict[_Name, _Lane] = {}
        self._free: deque[_Name] = deque()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Entry]:
        for lane in self._lanes.values():
            yield from lane.waiting

    @property
    def ready(self) -> bool:
        """Whether a key has records waiting and none running."""
        return bool(self._free)

    def add(self, entry: Entry) -> None:
        """Take a record that was fetched."""
        name = _name(entry)
        lane = self._lanes.get(name)
        if lane is None:
            lane = self._lanes[name] = _Lane()
        if not lane.given and not lane.waiting:
            self._free.append(name)
        lane.waiting.append(entry)
        self._count += 1
        self.size += entry.size

    def take(self, busy: bool) -> list[Entry]:
        """Return the next batch: as much as it may hold of the key that waits longest, then of the next."""
        count = self._estimator.batch(entry.task for entry in self._candidates())
        entries: list[Entry] = []
        size = 0
        for entry in islice(self._candidates(), count):
            size += entry.size
            if size > PREFETCH_BYTES and (entries or busy):
                break
            entries.append(entry)
        for entry in entries:
            lane = self._lanes[_name(entry)]
            lane.waiting.popleft()
            lane.given += 1
            self._count -= 1
            self.size -= entry.size
        while self._free and self._lanes[self._free[0]].given:
            self._free.popleft()
        return entries

    def _candidates(self) -> Iterator[Entry]:
        for name in self._free:
            for entry in self._lanes[name].waiting:
                yield entry
                if entry.obituary is not None:
                    break

    def put_back(self, entries: Sequence[Entry]) -> None:
        """Take back what did not end, to where it was in its lane."""
        for entry in reversed(entries):
            name = _name(entry)
            lane = self._lanes[name]
            if entry.tracker.active:
                lane.waiting.appendleft(entry)
                self._count += 1
                self.size += entry.size
            lane.given -= 1
            self._left(name, lane, first=True)

    def ended(self, entry: Entry) -> None:
        """Let the next records of the key go once all that were given out have ended."""
        name = _name(entry)
        lane = self._lanes[name]
        lane.given -= 1
        self._left(name, lane, first=False)

    def _left(self, name: _Name, lane: _Lane, first: bool) -> None:
        if lane.given:
            return
        if not lane.waiting:
            del self._lanes[name]
        elif first:
            self._free.appendleft(name)
        else:
            self._free.append(name)

    def forget(self, partitions: Collection[int]) -> None:
        """Drop what waits of these partitions; what an executor has of them still keeps its key's turn."""
        for name, lane in list(self._lanes.items()):
            if name[0] in partitions:
                lane.waiting = deque(_kept(lane.waiting, partitions))
                if not lane.waiting and not lane.given:
                    del self._lanes[name]
        self._free = deque(name for name in self._free if name in self._lanes and self._lanes[name].waiting)
        self._count = sum(len(lane.waiting) for lane in self._lanes.values())
        self.size = sum(entry.size for entry in self)


def _name(entry: Entry) -> _Name:
    # A record without a key waits for no other.
    return entry.partition, entry.offset if entry.key is None else entry.key


def _kept(entries: Collection[Entry], partitions: Collection[int]) -> list[Entry]:
    return [entry for entry in entries if entry.partition not in partitions or entry.obituary is not None]
