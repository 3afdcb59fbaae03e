"""
Which offsets of a partition are finished, and what may therefore be committed.

Executors finish out of order, Kafka commits one number. So the committed offset is the *watermark*, the first offset
that is not finished, and what is finished beyond it stands, run-length encoded, in the metadata that Kafka keeps with
every commit. After a restart neither is executed again. The scheme is that of Confluent's parallel consumer
(https://github.com/confluentinc/parallel-consumer, "offset encoding"), with a text form that other programs can read.

Commit metadata, version 1: `v=1;busy=0.42;beyond=3.1.40.2`. The numbers after `beyond` are lengths of runs that begin
at the committed offset and alternate: not finished, finished, not finished, and so on; they end with a finished run.
`busy` is how busy the worker was that committed, from 0 to 1. Each may be missing; fields are separated by `;`, and
unknown ones are to be ignored.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

METADATA_LIMIT = 3_000
"""Bytes of metadata at which a partition is fetched no further."""

METADATA_MOST = 4_000
"""
Bytes of metadata, at most; what does not fit is not remembered, and would run again after a crash.

Brokers refuse commits above `offset.metadata.max.bytes`, 4,096 by default.
"""


class PartitionTracker:
    """
    Offsets of one assigned partition.

    `committed` is where the group resumes; `metadata` is what was committed with it.
    """

    def __init__(self, committed: int, metadata: str = "") -> None:
        self._unfinished: dict[int, float] = {}
        self._next = committed
        self._skip = decode_runs(committed, metadata)
        self.active = True
        """False once the partition is somebody else's: what finishes then is not ours to commit."""

    def fetched(self, offset: int, written: float = 0.0) -> bool:
        """
        Note a record that was fetched; return False when it is finished already and must not run again.

        `written` is when it was written to the log, in seconds since the epoch. Offsets come in ascending order; holes
        (compaction, transaction markers) count as finished.
        """
        if offset < self._next:
            return False
        self._next = offset + 1
        while self._skip and self._skip[0][1] <= offset:
            self._skip.pop(0)
        if self._skip and self._skip[0][0] <= offset:
            return False
        self._unfinished[offset] = written
        return True

    def finish(self, offset: int) -> None:
        """Note that the record at `offset` is done with; finishing twice is harmless."""
        self._unfinished.pop(offset, None)

    @property
    def unfinished(self) -> int:
        """How many fetched records are not finished."""
        return len(self._unfinished)

    def oldest(self) -> float:
        """Return when the first record that is not finished was written; 0 when there is none."""
        return next(iter(self._unfinished.values()), 0.0)

    def left(self, end: int) -> int:
        """Return how many records before `end` are not finished, whether they were fetched or not."""
        known = sum(stop - max(start, self._next) for start, stop in self._skip if stop > self._next)
        return len(self._unfinished) + max(0, end - self._next - known)

    def watermark(self) -> int:
        """Return the offset to commit: that of the first record which is not finished."""
        return next(iter(self._unfinished), self._next)

    def metadata(self) -> str:
        """Return the commit metadata: what is finished beyond the watermark, or nothing."""
        text = "v=1;beyond="
        empty = len(text)
        for skipped, finished in self._runs():
            pair = f"{skipped}.{finished}" if len(text) == empty else f".{skipped}.{finished}"
            if len(text) + len(pair) > METADATA_MOST:
                break
            text += pair
        return text if len(text) > empty else ""

    def _runs(self) -> Iterator[tuple[int, int]]:
        """Yield pairs of lengths, from the watermark on: not finished, then finished."""
        position = self.watermark()
        for start, end in self._finished_intervals(position):
            yield start - position, end - start
            position = end

    def _finished_intervals(self, position: int) -> Iterator[tuple[int, int]]:
        """Yield what is finished at or after `position`, in this session and, further on, in the one before."""
        for offset in self._unfinished:
            if offset > position:
                yield position, offset
            position = offset + 1
        intervals = [(position, self._next)] if self._next > position else []
        intervals += [(max(start, self._next), end) for start, end in self._skip if end > self._next]
        yield from merge(intervals)


def merge(intervals: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Join half-open intervals, given in ascending order, that touch or overlap."""
    current: tuple[int, int] | None = None
    for start, end in intervals:
        if current is None:
            current = (start, end)
        elif start <= current[1]:
            current = (current[0], max(current[1], end))
        else:
            yield current
            current = (start, end)
    if current is not None:
        yield current


def decode_runs(committed: int, metadata: str) -> list[tuple[int, int]]:
    """
    Return the half-open intervals of offsets that `metadata` says are finished.

    Text that is not ours (another client may have committed) or is damaged means nothing is known to be finished: to
    run a record again is the lesser evil.
    """
    fields = _fields(metadata)
    if not fields.get("beyond"):
        return []
    try:
        lengths = [int(text) for text in fields["beyond"].split(".")]
    except ValueError:
        return []
    if len(lengths) % 2 or min(lengths) < 0:
        return []
    intervals = []
    position = committed
    for skipped, finished in zip(lengths[::2], lengths[1::2], strict=True):
        start = position + skipped
        position = start + finished
        intervals.append((start, position))
    return intervals


def with_busy(metadata: str, busy: float | None) -> str:
    """Return a tracker's metadata with how busy its worker is; None is not said."""
    if busy is None:
        return metadata
    return f"v=1;busy={busy:.2f}{metadata.removeprefix('v=1')}"


def busy_of(metadata: str) -> float | None:
    """Return how busy the worker was that committed, 0 to 1, or None where that is not said."""
    try:
        busy = float(_fields(metadata).get("busy", ""))
    except ValueError:
        return None
    # Written so that NaN does not pass.
    return busy if 0.0 <= busy <= 1.0 else None


def _fields(metadata: str) -> dict[str, str]:
    """Return the fields of metadata, or none where it is not of our version."""
    fields = dict(part.partition("=")[::2] for part in metadata.split(";"))
    return fields if fields.get("v") == "1" else {}
