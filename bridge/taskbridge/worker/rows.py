"""Observations of what executors did, gathered from them and written in batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

from taskbridge.exceptions import MalformedRecord
from taskbridge.observation import Batch, CopyRow, Kind, Outcome, Row, RunRow
from taskbridge.ports import Observer
from taskbridge.record import decode
from taskbridge.worker.entry import Entry

ROWS_PER_RECORD = 400
"""Rows in one observation record, well below a megabyte."""

OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
"""Their order is that of the codes in the shared memory."""


class Rows:
    """Rows that wait to be written; `kind` is that of the worker's role."""

    def __init__(self, observer: Observer, kind: Kind, service: str, source: str) -> None:
        self._observer = observer
        self._kind: Kind = kind
        self._service = service
        self._source = source
        self._waiting: list[Row] = []

    def add(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """Take rows as an executor reports them: the fields of RunRow or CopyRow in order."""
        row_type = CopyRow if self._kind == "copy" else RunRow
        self._waiting += [row_type(*fields) for fields in rows]

    def reconstruct(self, entry: Entry, outcome: Outcome, started: float, finished: float, detail: str = "") -> None:
        """Write the row that a dead executor could not report any more; a record that cannot be read has none."""
        if self._kind == "copy":
            return
        try:
            message, rest = decode(entry.value, entry.headers)
            identity = message.identity()
        except MalformedRecord:
            return
        epoch = rest.get("bridge-epoch", "0")
        self._waiting.append(
            RunRow(
                *identity,
                task=message.task,
                side="kafka",
                outcome=outcome,
                started=started,
                finished=finished,
                epoch=int(epoch) if epoch.isdecimal() else 0,
                partition=entry.partition,
                offset=entry.offset,
                deliveries=entry.deliveries,
                detail=detail,
            )
        )

    def flush(self, all_of_them: bool) -> None:
        """Write full batches, and with `all_of_them` the last one too."""
        while len(self._waiting) >= ROWS_PER_RECORD or (all_of_them and self._waiting):
            batch, self._waiting = self._waiting[:ROWS_PER_RECORD], self._waiting[ROWS_PER_RECORD:]
            self._observer.observe(Batch(self._kind, self._service, self._source, batch))
