"""The relay's tables in memory, and a clock that sleeping moves."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime

from taskbridge.cutover import Flag
from taskbridge.exceptions import StoreUnavailable
from taskbridge.ports import PendingMessage, Road
from taskbridge.record import Message
from taskbridge.relay import Claim, Side, Table, WaitingRow

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
    """A RelayStore for one relay; what a claim has begun is marked when its commit fails."""

    def __init__(self, clock: Clock) -> None:
        self.rows: dict[Table, dict[int, WaitingRow]] = {"delayed": {}, "outbox": {}}
        self.available = True
        self.breaks_at_commit = False
        self.claims = 0
        self.busy = False
        self.flags: dict[str, Flag] = {}
        self._clock = clock

    def put(
        self,
        table: Table,
        task_id: str,
        key: str = "",
        service: str = "orders",
        due: float = 0.0,
        attempts: int = 0,
        road: Road | None = None,
    ) -> None:
        """Add a row that is due `due` seconds after the clock's start."""
        number = 1 + max((row for rows in self.rows.values() for row in rows), default=0)
        when = datetime.fromtimestamp(START + due, UTC)
        road = road or ("any" if table == "delayed" else "kafka")
        pending = PendingMessage(
            service, key or task_id, message(task_id), when, 1, "web:1:ab", 5, road=road, attempts=attempts
        )
        self.rows[table][number] = WaitingRow(number, table, pending)

    def ids(self, table: Table) -> list[str]:
        """The task ids that wait, oldest first."""
        return [row.pending.message.task_id for row in self.rows[table].values()]

    @contextmanager
    def claim(self, table: Table, limit: int, after: WaitingRow | None = None) -> Iterator[Claim]:
        self._check()
        self.claims += 1
        rows = sorted(self.rows[table].values(), key=_place)
        due = [row for row in rows if row.pending.due.timestamp() <= START + self._clock.now]
        due = [row for row in due if row.pending.road != "held"]
        claim = FakeClaim([row for row in due if after is None or _place(row) > _place(after)][:limit])
        claim.flags = self.flags
        claim.busy = self.busy
        if self.busy:
            claim.rows = []
        yield claim
        if self.breaks_at_commit and claim.gone:
            # As the next claim would, by the note that is left.
            self.mark(table, claim.begun)
            raise StoreUnavailable("the connection broke")
        for number in claim.gone:
            del self.rows[table][number]
        self.mark(table, claim.doubtful)

    def next_due(self) -> float | None:
        self._check()
        dues = [row.pending.due.timestamp() for rows in self.rows.values() for row in rows.values()]
        return max(0.0, min(dues) - START - self._clock.now) if dues else None

    def mark(self, table: Table, doubtful: Mapping[Side, Collection[int]]) -> None:
        for side, numbers in doubtful.items():
            again: Road = "kafka-again" if side == "kafka" else "celery-again"
            for number in numbers:
                row = self.rows[table][number]
                pending = row.pending
                pending = replace(
                    pending, attempts=pending.attempts + 1, road=pending.road if pending.attempts else again
                )
                self.rows[table][number] = replace(row, pending=pending)

    def _check(self) -> None:
        if not self.available:
            raise StoreUnavailable("the database of this test is switched off")


class FakeClaim:
    def __init__(self, rows: list[WaitingRow]) -> None:
        self.rows = rows
        self.flags: Mapping[str, Flag] = {}
        self.busy = False
        self.begun: Mapping[Side, Collection[int]] = {}
        self.gone: Collection[int] = ()
        self.doubtful: Mapping[Side, Collection[int]] = {}

    def begin(self, ids: Mapping[Side, Collection[int]]) -> None:
        self.begun = ids

    def finish(self, gone: Collection[int], doubtful: Mapping[Side, Collection[int]]) -> None:
        self.gone, self.doubtful = gone, doubtful


def _place(row: WaitingRow) -> tuple[datetime, int]:
    return row.pending.due, row.id
