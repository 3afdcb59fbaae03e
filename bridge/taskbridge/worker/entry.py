"""A record on its way through the supervisor."""

from __future__ import annotations

from dataclasses import dataclass

from taskbridge.record import Headers
from taskbridge.worker.channel import Obituary
from taskbridge.worker.tracker import PartitionTracker


@dataclass(slots=True, eq=False)
class Entry:
    """
    One fetched record, its partition's tracker, its task's name, and about how many bytes it takes.

    `obituary` is set when an executor died while it ran the record.
    """

    tracker: PartitionTracker
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    task: str
    size: int
    obituary: Obituary | None = None

    @property
    def deliveries(self) -> int:
        """How often the record had been given back before this delivery."""
        text = header(self.headers, "bridge-deliveries")
        return int(text) if text.isdecimal() else 0


def size_of(value: bytes | None, headers: Headers) -> int:
    """Return about how many bytes a record takes in a pipe."""
    return len(value or b"") + sum([len(name) + len(raw or b"") for name, raw in headers])


def header(headers: Headers, name: str) -> str:
    """Return a header as text, or an empty string where there is none."""
    for known, raw in headers:
        if known == name:
            return raw.decode(errors="replace") if isinstance(raw, bytes) else ""
    return ""
