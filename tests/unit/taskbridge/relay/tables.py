"""The relay's tables in memory, and a clock that sleeping moves."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime

from taskbridge.exceptions import StoreUnavailable
from taskbridge.ports import PendingMessage
from taskbridge.record import Message
from taskbridge.relay import Claim, Table, WaitingRow

START = 1_700_000_000.0


def message(task_id: str, headers: bytes = b'{"retries": 1}') -> Message:
    """A message whose task id says which it is."""
    return Message("shop.orders.place", task_id, b"[[], {}, {}]", "application/json", "utf-8", headers, b"{}")


class Clock:
    """Seconds that pass only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0
        self.naps: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.now += seconds


class FakeTables:
    """A RelayStore for one relay, which commits like the real one: the marks at once, the rest at the end."""

    def __init__(self, clock: Clock) -> None:
        self.rows: dict[Table, dict[int, WaitingRow]] = {"delayed": {}, "outbox": {}}
        self.available = True
        self.breaks_at_commit = False
        self.claims = 0
        self._clock = clock

    def put(
        self, table: Table, task_id: str, key: str = "", service: str = "orders", due: float = 0.0, **fields: int
    ) -> None:
        """Add a row that is due `due` seconds after the clock's start."""
        number = 1 + max((row for rows in self.rows.values() for row in rows), default=0)
        when = datetime.fromtimestamp(START + due, UTC)
        pending = PendingMessage(service, key or task_id, message(task_id), when, 1, "web:1:ab", 5)
        self.rows[table][number] = WaitingRow(number, table, pending, **fields)

    def ids(self, table: Table) -> list[str]:
        """The task ids that wait, oldest first."""
        return [row.pending.message.task_id for row in self.rows[table].values()]

    @contextmanager
    def claim(self, table: Table, limit: int, after: WaitingRow | None = None) -> Iterator[Claim]:
        self._check()
        self.claims += 1
        rows = sorted(self.rows[table].values(), key=_place)
        due = [row for row in rows if row.pending.due.timestamp() <= START + self._clock.now]
        claim = FakeClaim(self, table, [row for row in due if after is None or _place(row) > _place(after)][:limit])
        yield claim
        if self.breaks_at_commit and claim.gone:
            raise StoreUnavailable("the connection broke")
        for number in claim.gone:
            del self.rows[table][number]
        for number in claim.untried:
            self.note(table, number, -1)

    def next_due(self) -> float | None:
        self._check()
        dues = [row.pending.due.timestamp() for rows in self.rows.values() for row in rows.values()]
        return max(0.0, min(dues) - START - self._clock.now) if dues else None

    def note(self, table: Table, number: int, change: int) -> None:
        row = self.rows[table][number]
        self.rows[table][number] = replace(row, attempts=row.attempts + change)

    def _check(self) -> None:
        if not self.available:
            raise StoreUnavailable("the database of this test is switched off")


class FakeClaim:
    def __init__(self, tables: FakeTables, table: Table, rows: list[WaitingRow]) -> None:
        self.rows = rows
        self.gone: Collection[int] = ()
        self.untried: Collection[int] = ()
        self._tables = tables
        self._table = table

    def attempt(self, ids: Collection[int]) -> Collection[int]:
        existing = [number for number in ids if number in self._tables.rows[self._table]]
        for number in existing:
            self._tables.note(self._table, number, +1)
        return existing

    def finish(self, gone: Collection[int], untried: Collection[int]) -> None:
        self.gone, self.untried = gone, untried


def _place(row: WaitingRow) -> tuple[datetime, int]:
    return row.pending.due, row.id
