"""Batches of observations, in whatever order they come, folded into one trace per identity."""

from __future__ import annotations

from collections import Counter
from fnmatch import fnmatchcase

from taskbridge.comparison.numbering import Numbering
from taskbridge.comparison.trace import Copy, Run, Sending, Trace
from taskbridge.observation import Batch, CopyRow, DispatchRow, Row, RunRow
from taskbridge.record import Identity


class Fold:
    """
    Everything observed of one service.

    The same rows in another order, or cut into other batches, fold to the same result. `task` is a pattern
    (`*` and `?`) that tasks must match to be looked at.
    """

    def __init__(self, service: str, task: str | None = None) -> None:
        self.service = service
        self.traces: dict[Identity, Trace] = {}
        self.dispatched = 0
        """Identities with a dispatch row, counted as they appear: the sum that the classes must add up to."""
        self.rows: Counter[str] = Counter()
        """Rows read, by kind."""
        self.repeated: Counter[str] = Counter()
        """Rows that say word for word what another said: an observation that was delivered twice."""
        self._pattern = task
        self._wanted: dict[str, bool] = {}
        self._words: dict[str, str] = {}
        self._dispatch_numbers: dict[str, Numbering] = {}
        self._copy_offsets: dict[int, Numbering] = {}

    def add(self, batch: Batch) -> None:
        """Take the rows of a batch of this service."""
        source = self._word(batch.source)
        for row in batch.rows:
            # Numbers run through all tasks, so they are noted before a pattern leaves tasks out.
            if isinstance(row, DispatchRow):
                self._dispatch_numbers.setdefault(source, Numbering()).add(row.seq)
            elif isinstance(row, CopyRow):
                self._copy_offsets.setdefault(row.partition, Numbering()).add(row.offset)
            if self._is_wanted(row.task):
                self._add(row, source)

    def unobserved_dispatches(self) -> int:
        """Return how many numbers are missing in the producers' numbering of their dispatches, over all tasks."""
        return sum(numbering.missing() for numbering in self._dispatch_numbers.values())

    def unobserved_copies(self) -> int:
        """Return how many offsets are missing between the copies that the shadow worker told of, over all tasks."""
        return sum(numbering.missing() for numbering in self._copy_offsets.values())

    def _add(self, row: Row, source: str) -> None:
        identity = Identity(row.id, row.retries, row.nesting)
        trace = self.traces.get(identity)
        if trace is None:
            trace = self.traces[identity] = Trace()
        if isinstance(row, DispatchRow):
            self.rows["dispatch"] += 1
            if not trace.sendings:
                self.dispatched += 1
            sending = self._sending(row, source)
            if sending in trace.sendings:
                self.repeated["dispatch"] += 1
            else:
                trace.sendings += (sending,)
        elif isinstance(row, RunRow):
            self.rows["run"] += 1
            run = self._run(row)
            if run in trace.runs:
                self.repeated["run"] += 1
            else:
                trace.runs += (run,)
        else:
            # A copy read twice says the same twice, and that is worth knowing: copies are all kept.
            self.rows["copy"] += 1
            trace.copies += (self._copy(row),)

    def _sending(self, row: DispatchRow, source: str) -> Sending:
        word = self._word
        return Sending(
            at=float(row.at),
            due=float(row.due),
            source=source,
            seq=row.seq,
            task=word(row.task),
            key=row.id if row.key == row.id else row.key,
            route=word(row.route),
            stage=word(row.stage),
            epoch=row.epoch,
            copy=word(row.copy),
            body=row.body,
            ambiguous=row.ambiguous,
            fallback=word(row.fallback),
        )

    def _run(self, row: RunRow) -> Run:
        word = self._word
        return Run(
            started=float(row.started),
            finished=float(row.finished),
            task=word(row.task),
            side=word(row.side),
            outcome=word(row.outcome),
            partition=row.partition,
            offset=row.offset,
            deliveries=row.deliveries,
            args=row.args,
            detail=word(row.detail),
            once=row.once,
        )

    def _copy(self, row: CopyRow) -> Copy:
        return Copy(
            partition=row.partition,
            offset=row.offset,
            task=self._word(row.task),
            decoded=row.decoded,
            resolved=row.resolved,
            bound=row.bound,
            body=row.body,
            args=row.args,
            error=self._word(row.error),
        )

    def _word(self, text: str) -> str:
        """Return the one copy of a text that thousands of rows share."""
        return self._words.setdefault(text, text)

    def _is_wanted(self, task: str) -> bool:
        if self._pattern is None:
            return True
        if task not in self._wanted:
            self._wanted[task] = fnmatchcase(task, self._pattern)
        return self._wanted[task]
