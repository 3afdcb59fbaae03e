"""Which partitions are ours, how far each is finished, and what of that the group knows."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterator, Mapping, Sequence

from taskbridge.worker.snapshot import PartitionState
from taskbridge.worker.source import Assigned, RecordSource
from taskbridge.worker.tracker import METADATA_LIMIT, PartitionTracker, busy_of, with_busy

logger = logging.getLogger(__name__)

BUSY_STEP = 0.05
"""By how much the busy fraction must have changed to be committed where nothing else has, unless it is to or from 0."""

Position = tuple[int, str]
"""An offset and the metadata that are committed together."""


class Offsets:
    """The partitions that the group has assigned to this member."""

    def __init__(self, source: RecordSource, topic: str, group: str) -> None:
        self._source = source
        self._topic = topic
        self._group = group
        self._trackers: dict[int, PartitionTracker] = {}
        self._committed: dict[int, Position] = {}
        self._told: dict[int, float | None] = {}
        self._paused: set[int] = set()
        self.busy: float | None = None
        """What is committed as the worker's busy fraction; None: nothing is."""
        self.commits = 0
        """Commits that were sent since the start."""
        self.failed_commits = 0
        """Partitions whose commit did not succeed, since the start."""

    def assign(self, assigned: Sequence[Assigned]) -> None:
        """Take partitions; one without a committed offset is not consumed."""
        for partition, committed, metadata in assigned:
            if committed < 0:
                logger.error(
                    "%s partition %d is not consumed: group %s has no committed offset for it, and where to begin is"
                    " not for the worker to guess; run `taskbridge topics` to set it",
                    self._topic,
                    partition,
                    self._group,
                )
                continue
            tracker = self._trackers[partition] = PartitionTracker(committed, metadata)
            told = self._told[partition] = busy_of(metadata)
            self._committed[partition] = (committed, with_busy(tracker.metadata(), told))

    def drop(self, partitions: Sequence[int]) -> None:
        """Give partitions up: what finishes of them from now on is not ours to commit."""
        for partition in partitions:
            tracker = self._trackers.pop(partition, None)
            if tracker is not None:
                tracker.active = False
            self._committed.pop(partition, None)
            self._paused.discard(partition)

    def fetched(self, partition: int, offset: int, written: float = 0.0) -> PartitionTracker | None:
        """Note a record that was fetched; return its tracker, or None when it must not run."""
        tracker = self._trackers.get(partition)
        return tracker if tracker is not None and tracker.fetched(offset, written) else None

    def states(self) -> Iterator[PartitionState]:
        """Yield how each partition stands."""
        ends = self._source.ends(list(self._trackers))
        now = time.time()
        for partition, tracker in sorted(self._trackers.items()):
            oldest, end = tracker.oldest(), ends.get(partition)
            yield PartitionState(
                partition,
                lag=None if end is None else tracker.left(end),
                behind=max(0.0, now - oldest) if oldest > 0 else 0.0,
                paused=partition in self._paused,
            )

    def pause(self) -> None:
        """Fetch nothing more."""
        wanted = [partition for partition in self._trackers if partition not in self._paused]
        if wanted:
            self._source.pause(wanted)
            self._paused.update(wanted)

    def resume(self) -> None:
        """Fetch again, except where the metadata would not hold what finishes."""
        if not self._paused:
            return
        ready = [
            partition
            for partition in self._paused
            if partition not in self._trackers or len(self._trackers[partition].metadata()) < METADATA_LIMIT
        ]
        self._paused.difference_update(ready)
        mine = [partition for partition in ready if partition in self._trackers]
        if mine:
            self._source.resume(mine)

    def uncommitted(self, only: Collection[int] | None = None) -> dict[int, Position]:
        """
        Return the positions that the group does not know yet, of all partitions or of `only` these.

        A partition whose metadata is nearly full is paused.
        """
        for partition in self._source.failed_commits():
            self.failed_commits += 1
            self._committed.pop(partition, None)
        positions = {}
        for partition, tracker in self._trackers.items():
            if only is not None and partition not in only:
                continue
            watermark, metadata = tracker.watermark(), tracker.metadata()
            if len(metadata) >= METADATA_LIMIT and partition not in self._paused:
                self._source.pause([partition])
                self._paused.add(partition)
            told = self._told.get(partition)
            if self._committed.get(partition) != (watermark, with_busy(metadata, told)) or self._outdated(told):
                positions[partition] = (watermark, with_busy(metadata, self.busy))
        return positions

    def _outdated(self, told: float | None) -> bool:
        """
        Return whether the busy fraction has to be committed for its own sake: a quiet partition moves no offset.

        That it is 0, or no longer, always has: by that a scaler tells rest from work, and work from a stall.
        """
        if self.busy is None:
            return False
        return told is None or abs(self.busy - told) >= BUSY_STEP or (self.busy > 0) != (told > 0)

    def commit(self, positions: Mapping[int, Position], wait: bool) -> None:
        """Commit; with `wait` raise BrokerUnavailable when that fails, else it is repeated."""
        self.commits += 1
        self._source.commit(positions, wait)
        self._committed.update(positions)
        self._told.update(dict.fromkeys(positions, self.busy))
