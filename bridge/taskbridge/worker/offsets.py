"""Which partitions are ours, how far each is finished, and what of that the group knows."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence

from taskbridge.worker.source import Assigned, RecordSource
from taskbridge.worker.tracker import METADATA_LIMIT, PartitionTracker

logger = logging.getLogger(__name__)

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
        self._paused: set[int] = set()

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
            self._trackers[partition] = PartitionTracker(committed, metadata)
            self._committed[partition] = (committed, metadata)

    def drop(self, partitions: Sequence[int]) -> None:
        """Give partitions up: what finishes of them from now on is not ours to commit."""
        for partition in partitions:
            tracker = self._trackers.pop(partition, None)
            if tracker is not None:
                tracker.active = False
            self._committed.pop(partition, None)
            self._paused.discard(partition)

    def fetched(self, partition: int, offset: int) -> PartitionTracker | None:
        """Note a record that was fetched; return its tracker, or None when it must not run."""
        tracker = self._trackers.get(partition)
        return tracker if tracker is not None and tracker.fetched(offset) else None

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
            self._committed.pop(partition, None)
        positions = {}
        for partition, tracker in self._trackers.items():
            if only is not None and partition not in only:
                continue
            position = (tracker.watermark(), tracker.metadata())
            if len(position[1]) >= METADATA_LIMIT and partition not in self._paused:
                self._source.pause([partition])
                self._paused.add(partition)
            if self._committed.get(partition) != position:
                positions[partition] = position
        return positions

    def commit(self, positions: Mapping[int, Position], wait: bool) -> None:
        """Commit; with `wait` raise BrokerUnavailable when that fails, else it is repeated."""
        self._source.commit(positions, wait)
        self._committed.update(positions)
