"""The bridge's tables in memory: flags, what waits, notes of relays, and locks, as the real store keeps them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Literal

from taskbridge.cutover import Flag, Stage
from taskbridge.exceptions import StoreUnavailable
from taskbridge.ports import PendingMessage
from taskbridge.relay import Side, Table, WaitingRow
from tests.unit.machine.servers import Clock, Process

Commits = Literal["calm", "doubts", "fails"]
"""How a commit ends: well, stored but with an error, or not stored."""

Row = tuple[Table, PendingMessage]

TABLES: tuple[Table, ...] = ("outbox", "delayed")


@dataclass(slots=True)
class Note:
    """What a relay was about to publish."""

    table: Table
    side: Side
    ids: set[int]


class Database:
    """One PostgreSQL. While it is not `available`, everything raises StoreUnavailable; `commits` end as they say."""

    def __init__(self, clock: Clock) -> None:
        self.available = True
        self.readable_since = float("-inf")
        self.unreadable_since = float("inf")
        self.commits: list[Commits] = []
        self.flags: dict[tuple[str, str], Flag] = {}
        self.history: list[tuple[float, dict[tuple[str, str], Flag]]] = [(float("-inf"), {})]
        self.version = 0
        self.rows: dict[Table, dict[int, WaitingRow]] = {"outbox": {}, "delayed": {}}
        self.notes: list[Note] = []
        self.shared: dict[str, int] = {}
        self.gone: list[WaitingRow] = []
        self._clock = clock
        self._ids = 0

    def switch(self, available: bool) -> None:
        """Take the database away, or bring it back."""
        if available and not self.available:
            self.readable_since, self.unreadable_since = self._clock.now, float("inf")
        elif self.available and not available:
            self.unreadable_since = self._clock.now
        self.available = available

    def check(self) -> None:
        """Raise StoreUnavailable while the database is away."""
        if not self.available:
            raise StoreUnavailable("the database is away")

    def commit(self, change: Callable[[], None]) -> None:
        """Make a change for good, unless the commit fails."""
        self.check()
        how = self.commits.pop(0) if self.commits else "calm"
        if how != "fails":
            change()
        if how != "calm":
            raise StoreUnavailable(f"the connection broke in the commit ({how})")

    # Flags

    def flag(self, service: str, task: str = "") -> Flag:
        """Return a flag as it stands."""
        return self.flags.get((service, task)) or Flag(service, Stage.OFF, task=task, cleared=bool(task))

    def put(self, flag: Flag, epoch: bool = True) -> None:
        """Store a flag under the next version, and with `epoch` under its next epoch."""
        self.version += 1
        self.flags[flag.service, flag.task] = replace(flag, version=self.version, epoch=flag.epoch + epoch)
        self.history.append((self._clock.now, dict(self.flags)))

    def flags_since(self, version: int) -> Sequence[Flag]:
        """Return the flags above a version."""
        self.check()
        return [flag for flag in self.flags.values() if flag.version > version]

    # Rows

    def insert(self, rows: Sequence[Row]) -> None:
        """Store rows; what is delayed goes, when it is due, where the flag says then."""
        for table, pending in rows:
            self._ids += 1
            kept = replace(pending, road="any", attempts=0) if table == "delayed" else pending
            self.rows[table][self._ids] = WaitingRow(self._ids, table, kept)

    def waiting(self, service: str, key: str) -> list[WaitingRow]:
        """Return the rows of a key in the outbox."""
        return [row for row in self.rows["outbox"].values() if row.key == (service, key)]

    def delete(self, table: Table, number: int) -> None:
        """Delete a row; `gone` remembers it, with the attempts that it had."""
        self.gone.append(self.rows[table].pop(number))

    def mark(self, table: Table, side: Side, ids: Collection[int]) -> None:
        """Count publishes of unknown end; a row that nobody had tried may only go to that side from now on."""
        for number in ids:
            row = self.rows[table].get(number)
            if row is not None:
                road = row.pending.road if row.pending.attempts else f"{side}-again"
                pending = replace(row.pending, attempts=row.pending.attempts + 1, road=road)
                self.rows[table][number] = replace(row, pending=pending)

    def turn(self, service: str, before: str, after: str) -> int:
        """Change the road of a service's rows in the outbox; return how many had the one before."""
        found = [row for row in self.rows["outbox"].values() if row.pending.service == service]
        found = [row for row in found if row.pending.road == before]
        for row in found:
            self.rows["outbox"][row.id] = replace(row, pending=replace(row.pending, road=after))
        return len(found)

    def hold(self, service: str) -> None:
        """Hold rows back, but for those that a relay was about to send when it died: one side may have them."""
        rows = self.rows["outbox"]
        for note in self.notes:
            for number in note.ids & set(rows) if note.table == "outbox" else ():
                pending = rows[number].pending
                if pending.service == service and pending.road == "any":
                    again = replace(pending, road=f"{note.side}-again", attempts=max(pending.attempts, 1))
                    rows[number] = replace(rows[number], pending=again)
        self.turn(service, "any", "held")

    @property
    def idle(self) -> bool:
        """Whether no row waits."""
        return not any(self.rows.values())


@dataclass(slots=True)
class TableClaim:
    """A relay's Claim on the tables of this module."""

    database: Database
    process: Process
    table: Table
    rows: Sequence[WaitingRow] = ()
    flags: Mapping[str, Flag] = field(default_factory=dict)
    busy: bool = False
    gone: Collection[int] = ()
    doubtful: Mapping[Side, Collection[int]] = field(default_factory=dict)

    def begin(self, ids: Mapping[Side, Collection[int]]) -> None:
        """Note what is about to be published, committed at once."""
        self.process.step()
        notes = [Note(self.table, side, set(some)) for side, some in ids.items() if some]
        self.database.commit(lambda: self.database.notes.extend(notes))
        self.process.step()

    def finish(self, gone: Collection[int], doubtful: Mapping[Side, Collection[int]]) -> None:
        """Remember what is to be done when the claim ends."""
        self.gone, self.doubtful = gone, doubtful

    def end(self) -> None:
        """Do what `finish` said, and take the notes back."""
        for number in self.gone:
            self.database.delete(self.table, number)
        for side, ids in self.doubtful.items():
            self.database.mark(self.table, side, ids)
        self.database.notes = [note for note in self.database.notes if note.table != self.table]


class RelayTables:
    """A RelayStore of one process."""

    def __init__(self, database: Database, process: Process, clock: Clock, ordered: Collection[str]) -> None:
        self._database = database
        self._process = process
        self._clock = clock
        self._ordered = ordered

    @contextmanager
    def claim(self, table: Table, limit: int, after: WaitingRow | None = None) -> Iterator[TableClaim]:
        """Yield due rows; while it lasts, no transition of an ordered service with rows in it passes."""
        database, claim = self._database, TableClaim(self._database, self._process, table)
        self._process.step()
        database.check()
        self._mark_abandoned(table)
        rows = sorted(database.rows[table].values(), key=_place)
        may_go = [row for row in rows if self._may_go(row) and (after is None or _place(row) > _place(after))]
        claim.rows = may_go[:limit]
        services = {row.pending.service for row in claim.rows} & set(self._ordered)
        claim.flags = {service: database.flag(service) for service in services}
        with holding(database, services):
            yield claim
            self._process.step()
            if claim.rows:
                database.commit(claim.end)
                self._process.step()

    def next_due(self) -> float | None:
        """Return None: a relay of this machine never waits."""
        return None

    def _may_go(self, row: WaitingRow) -> bool:
        if row.table == "delayed":
            return row.pending.due <= self._clock.moment()
        held = [one for one in self._database.waiting(*row.key) if one.pending.road == "held"]
        return all(row.id < one.id for one in held)

    def _mark_abandoned(self, table: Table) -> None:
        # No two claims overlap here, so whoever left a note is dead, or could not take it back.
        for note in self._database.notes:
            if note.table == table:
                self._database.mark(table, note.side, note.ids)
        self._database.notes = [note for note in self._database.notes if note.table != table]


@contextmanager
def holding(database: Database, services: Collection[str]) -> Iterator[None]:
    """Keep transitions of ordered services away."""
    for service in services:
        database.shared[service] = database.shared.get(service, 0) + 1
    try:
        yield
    finally:
        for service in services:
            database.shared[service] -= 1


def _place(row: WaitingRow) -> tuple[float, int]:
    return (row.pending.due.timestamp() if row.table == "delayed" else 0.0), row.id
