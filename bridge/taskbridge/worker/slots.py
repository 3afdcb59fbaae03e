"""
The memory that a supervisor shares with one executor: what has started and what has finished.

It outlives the executor, so that after a crash the supervisor knows which record was running, which were done and
which had merely waited. Layout, little-endian: soft and hard deadline of the running task (monotonic seconds, 0 for
none); seconds of work in batches that are done, and when the present batch began (monotonic, 0 for none); then `SLOTS`
slots of one state byte, seven bytes of padding, start and end (seconds since the epoch). The state byte is written
last, when the times are in place.
"""

from __future__ import annotations

import struct
from typing import Any

SLOTS = 1024
"""More than the records an executor may hold, so that a slot is never reused while it is in use."""

EMPTY, RUNNING, ATTENTION, WITHDRAWN = range(4)
"""
States. ATTENTION: the body has ended, but the supervisor still has to do something with the record, which the executor
tells in a message. WITHDRAWN: the supervisor has taken the record back before it began, to give it to another executor.
"""

DONE = 16
"""A record that has ended for good; the outcome's number is added."""

_DEADLINES = struct.Struct("<dd")
_WORK = struct.Struct("<dd")
_TIMES = struct.Struct("<dd")
_SLOTS_AT = _DEADLINES.size + _WORK.size
_SLOT_SIZE = 8 + _TIMES.size

SIZE = _SLOTS_AT + SLOTS * _SLOT_SIZE
"""Bytes of memory that a table needs."""


class SlotTable:
    """A view on the shared memory; supervisor and executor each make one over the same bytes."""

    def __init__(self, memory: Any) -> None:
        """`memory` is a writable buffer of `SIZE` bytes."""
        self._view = memoryview(memory).cast("B")
        self._worked = self._began = 0.0

    def clear(self, slot: int) -> None:
        """Make a slot ready for a new record."""
        self._view[_SLOTS_AT + slot * _SLOT_SIZE] = EMPTY

    def withdraw(self, slot: int) -> None:
        """Take the record in `slot` back; only while it is EMPTY, and both sides hold the executor's lock for that."""
        self._view[_SLOTS_AT + slot * _SLOT_SIZE] = WITHDRAWN

    def start(self, slot: int, now: float) -> None:
        """Say that the record in `slot` is running."""
        base = _SLOTS_AT + slot * _SLOT_SIZE
        _TIMES.pack_into(self._view, base + 8, now, 0.0)
        self._view[base] = RUNNING

    def end(self, slot: int, started: float, now: float, state: int) -> None:
        """Say that the record in `slot` has ended: ATTENTION, or DONE plus the outcome's number."""
        base = _SLOTS_AT + slot * _SLOT_SIZE
        _TIMES.pack_into(self._view, base + 8, started, now)
        self._view[base] = state

    def state(self, slot: int) -> int:
        """Return the state of `slot`."""
        return self._view[_SLOTS_AT + slot * _SLOT_SIZE]

    def times(self, slot: int) -> tuple[float, float]:
        """Return start and end of the record in `slot`, 0 where there is none yet."""
        started, ended = _TIMES.unpack_from(self._view, _SLOTS_AT + slot * _SLOT_SIZE + 8)
        return started, ended

    def set_deadlines(self, soft: float, hard: float) -> None:
        """Set the running task's deadlines; 0 for none."""
        _DEADLINES.pack_into(self._view, 0, soft, hard)

    def deadlines(self) -> tuple[float, float]:
        """Return the running task's soft and hard deadline."""
        soft, hard = _DEADLINES.unpack_from(self._view, 0)
        return soft, hard

    def begin_work(self, now: float) -> None:
        """Say that a batch begins; `now` is monotonic."""
        self._began = now
        _WORK.pack_into(self._view, _DEADLINES.size, self._worked, now)

    def end_work(self, now: float) -> None:
        """Say that the batch is done and nothing else is."""
        self._worked += now - self._began
        _WORK.pack_into(self._view, _DEADLINES.size, self._worked, 0.0)

    def worked(self, now: float) -> float:
        """Return the seconds of work so far, those of the present batch among them."""
        done, began = _WORK.unpack_from(self._view, _DEADLINES.size)
        return float(done + max(0.0, now - began) if began else done)
