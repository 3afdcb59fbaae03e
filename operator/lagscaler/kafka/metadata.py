"""
What a group's member says beside the offset that it commits: `v=1;busy=0.42;beyond=3.1.40.2`.

The format is described in docs/reference/record-format.md, "Committed offsets". Other programs commit other things, or
nothing: what is not of the format says nothing, whoever wrote it.
"""

from __future__ import annotations

from dataclasses import dataclass

LONGEST = 64 * 1024
"""Characters beyond which metadata is not looked at: brokers take 4,096 bytes unless they are told otherwise."""


@dataclass(frozen=True, slots=True)
class Note:
    """What commit metadata says."""

    beyond: int = 0
    """Records finished beyond the committed offset."""
    busy: float | None = None
    """Share of time, 0 to 1, in which the worker that committed was at work; None: not said."""


NOTHING = Note()


def read_note(text: str) -> Note:
    """Return what commit metadata says; each field that is missing, damaged or foreign says nothing."""
    if not text.startswith("v=") or len(text) > LONGEST:
        return NOTHING
    # confluent-kafka's Python client commits the zero byte behind its text as well.
    fields = dict(part.partition("=")[::2] for part in text.rstrip("\0").split(";"))
    if fields["v"] != "1":
        return NOTHING
    return Note(_finished(fields.get("beyond", "")), _share(fields.get("busy", "")))


def _finished(runs: str) -> int:
    """Return the sum of every second run: they alternate, and the first is of records that are not finished."""
    lengths = runs.split(".")
    # Not int() alone, which takes signs, blanks and underscores, and refuses what is very long.
    if len(lengths) % 2 or not all(length.isascii() and length.isdigit() and len(length) < 20 for length in lengths):
        return 0
    return sum(map(int, lengths[1::2]))


def _share(text: str) -> float | None:
    try:
        share = float(text)
    except ValueError:
        return None
    # Written so that NaN does not pass.
    return share if 0.0 <= share <= 1.0 else None
