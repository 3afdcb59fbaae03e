"""A topic in memory, read by one member of a group, to which a test gives a script."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from threading import Event

from taskbridge.exceptions import BrokerUnavailable
from taskbridge.worker.source import Assigned, Fetched
from taskbridge.worker.tracker import busy_of
from tests.unit.taskbridge.worker.entries import headers

PATIENCE = 15.0
"""Seconds for a script."""


class FakeTopic:
    """
    A RecordSource.

    `script` holds (condition, action): at each poll the first one's action is taken once its condition holds. When none
    is left, `at_end` is called. Commits are kept without the busy fraction, which stands in `busy`.
    """

    def __init__(self, *values: str, partition: int = 0, assigned: Sequence[Assigned] | None = None) -> None:
        self.assigned = assigned if assigned is not None else [Assigned(partition, 0, "")]
        self.script: deque[tuple[Callable[[], object], Callable[[], object]]] = deque()
        self.at_end: Callable[[], object] = lambda: None
        self.commits: list[tuple[dict[int, tuple[int, str]], bool]] = []
        self.committed: dict[int, tuple[int, str]] = {}
        self.busy: dict[int, float | None] = {}
        self.paused: set[int] = set()
        self.calls: list[tuple[str, list[int]]] = []
        self.failing = False
        self.failed: set[int] = set()
        self._waiting: deque[Fetched] = deque()
        self._ends: dict[int, int] = {}
        self._mine: set[int] = set()
        self._joined = False
        self._deadline = time.monotonic() + PATIENCE
        self.put(*values, partition=partition)

    def put(self, *values: str, partition: int = 0) -> None:
        """Append records whose values are `values` and whose tasks are their first words."""
        for value in values:
            offset = self._ends.get(partition, 0)
            self._ends[partition] = offset + 1
            found = headers(task=value.partition(":")[0], task_id=f"{partition}-{offset}")
            self._waiting.append(Fetched(partition, offset, b"k", value.encode(), found, time.time()))

    def open(
        self,
        on_assigned: Callable[[Sequence[Assigned]], None],
        on_revoked: Callable[[Sequence[int]], None],
        on_lost: Callable[[Sequence[int]], None],
    ) -> None:
        self._on_assigned, self._on_revoked, self._on_lost = on_assigned, on_revoked, on_lost
        self.script.appendleft((lambda: True, self._assign))

    def joined(self) -> bool:
        return self._joined

    def _assign(self) -> None:
        self._joined = True
        self._mine = {one.partition for one in self.assigned}
        self._on_assigned(self.assigned)

    def revoke(self, *partitions: int) -> None:
        """Take partitions away in order."""
        self._on_revoked(partitions)
        self._mine.difference_update(partitions)

    def lose(self, *partitions: int) -> None:
        """Take partitions away, as when the session was over."""
        self._mine.difference_update(partitions)
        self._on_lost(partitions)

    def poll(self, timeout: float, most: int) -> list[Fetched]:
        assert time.monotonic() < self._deadline, f"the script does not go on; {len(self.script)} steps are left"
        if not self.script:
            self.at_end()
        elif self.script[0][0]():
            self.script.popleft()[1]()
        found = []
        kept: deque[Fetched] = deque()
        while self._waiting:
            record = self._waiting.popleft()
            mine = record.partition in self._mine and record.partition not in self.paused
            if mine and len(found) < most:
                found.append(record)
            else:
                kept.append(record)
        self._waiting = kept
        if not found and timeout:
            Event().wait(min(timeout, 0.005))
        return found

    def commit(self, offsets: Mapping[int, tuple[int, str]], wait: bool) -> None:
        plain = {number: (offset, _without_busy(metadata)) for number, (offset, metadata) in offsets.items()}
        self.busy.update({number: busy_of(metadata) for number, (_, metadata) in offsets.items()})
        self.commits.append((plain, wait))
        if not self.failing:
            self.committed.update(plain)
        elif wait:
            raise BrokerUnavailable("the offsets could not be committed: no answer")
        else:
            self.failed.update(offsets)

    def failed_commits(self) -> set[int]:
        failed, self.failed = self.failed, set()
        return failed

    def pause(self, partitions: Sequence[int]) -> None:
        self.calls.append(("pause", list(partitions)))
        self.paused.update(partitions)

    def resume(self, partitions: Sequence[int]) -> None:
        self.calls.append(("resume", list(partitions)))
        self.paused.difference_update(partitions)

    def ends(self, partitions: Sequence[int]) -> Mapping[int, int]:
        return {number: self._ends[number] for number in partitions if number in self._ends}

    def close(self) -> None:
        self.revoke(*sorted(self._mine))


def _without_busy(metadata: str) -> str:
    kept = [part for part in metadata.split(";") if not part.startswith("busy=")]
    return ";".join(kept) if len(kept) > 1 else ""
