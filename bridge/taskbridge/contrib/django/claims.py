"""The tables of waiting messages, as the relay empties them."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from taskbridge.contrib.django.fences import share
from taskbridge.contrib.django.session import Sessions
from taskbridge.contrib.django.store import SHARDS
from taskbridge.contrib.django.transition import LOCK
from taskbridge.cutover import Flag
from taskbridge.ports import PendingMessage
from taskbridge.record import Message
from taskbridge.relay import Claim, Side, Table, WaitingRow

LIMIT = 10.0
"""Seconds for one statement."""

ABANDONED = 120.0
"""Seconds after which the database ends the transaction of a relay that is not heard of any more."""

SHARDS_PER_CLAIM = 16
"""Of 64 shards, those that one claim takes while there are other replicas; the others are left to them."""

WINDOW = 4
"""While there are other replicas: how many batches of due rows are looked at to find shards that are free."""

COMPANY = 10.0
"""Seconds for which a relay goes by it that it met another one."""

MOST_BYTES = 16 * 2**20
"""Bytes of message bodies after which a claim takes no further row."""

MOST_ATTEMPTS = 32_767

SHARD_LOCKS: dict[Table, int] = {"delayed": LOCK + 1, "outbox": LOCK + 2}
"""Classes of the advisory locks; the number beside it is the shard's. Whoever holds one alone may touch its rows."""

_COLUMNS = (
    "id, service, key, task, task_id, body, content_type, content_encoding, headers, properties, epoch, producer, seq,"
    " road, attempts"
)
_DUE: dict[Table, str] = {"delayed": "due", "outbox": "created_at"}
_ORDER: dict[Table, str] = {"delayed": "due, id", "outbox": "id"}
_MAY_GO: dict[Table, str] = {
    "delayed": "due <= now()",
    "outbox": (
        "road <> 'held' AND NOT EXISTS (SELECT FROM taskbridge_outbox AS held WHERE held.road = 'held'"
        " AND held.service = row.service AND held.key = row.key AND held.id < row.id)"
    ),
}
"""What is due, and does not have to wait behind a message of its key that is held back."""


class DjangoRelayStore:
    """A RelayStore over the bridge's own connections to one database."""

    def __init__(self, sessions: Sessions, ordered: Collection[str] = (), flags: Sessions | None = None) -> None:
        """`ordered` are the services that keep their order; `flags` leads to their flags, if not `sessions` does."""
        self._sessions = sessions
        self._ordered = frozenset(ordered)
        self._flags = flags or sessions
        self._in_company_until = float("-inf")

    @contextmanager
    def claim(self, table: Table, limit: int, after: WaitingRow | None = None) -> Iterator[Claim]:
        """
        Yield due rows of shards that this transaction has locked.

        The locks come first and the rows are read afterwards, by a statement of its own: rows that a former holder of
        a lock has deleted are gone from its view, and rows that he left are in it.
        """
        begin = f"SET LOCAL idle_in_transaction_session_timeout = {round(ABANDONED * 1000)}"
        with ExitStack() as stack:
            cursor = stack.enter_context(self._sessions.transaction(LIMIT, begin))
            claim = _Claim(self._sessions, cursor, table)
            waiting = self._waiting(cursor, table, limit, after)
            if waiting:
                claim.shards = self._lock(cursor, table, waiting)
                claim.busy = len(claim.shards) < len(waiting)
            if claim.shards:
                _mark_abandoned(cursor, table, claim.shards)
                claim.rows = _read(cursor, table, limit, after, claim.shards)
                ordered = self._ordered.intersection(row.pending.service for row in claim.rows)
                if ordered:
                    locking = cursor
                    if self._flags is not self._sessions:
                        locking = stack.enter_context(self._flags.transaction(LIMIT, begin))
                    last = len(claim.rows) < limit
                    claim.flags = share(locking, ordered, alone=last)
                    if last:
                        # Dispatches queue behind rows of their key. With none coming in, all of these can be sent, and
                        # the next dispatch need not queue; else the relay might run after a busy key for ever.
                        claim.rows = _read(cursor, table, limit, after, claim.shards)
            yield claim

    def _waiting(self, cursor: Any, table: Table, limit: int, after: WaitingRow | None) -> list[int]:
        """Return shards with due rows, that of the oldest first."""
        where, parameters = _place(table, after)
        window = limit * WINDOW if self._in_company() else limit
        cursor.execute(
            f"SELECT shard FROM (SELECT shard, {_ORDER[table]} FROM taskbridge_{table} AS row"  # noqa: S608
            f" WHERE {_MAY_GO[table]} AND {where} ORDER BY {_ORDER[table]} LIMIT %s) AS oldest"
            f" GROUP BY shard ORDER BY min({_ORDER[table].split(',')[0]})",
            (*parameters, window),
        )
        return [row[0] for row in cursor.fetchall()]

    def _lock(self, cursor: Any, table: Table, waiting: Sequence[int]) -> list[int]:
        """Return those of the shards that are ours now: all that are free, or a part where others want some too."""
        most = SHARDS_PER_CLAIM if self._in_company() else SHARDS
        cursor.execute(
            "SELECT shard FROM unnest(%s::integer[]) AS shard WHERE pg_try_advisory_xact_lock(%s, shard) LIMIT %s",
            (_array(waiting), SHARD_LOCKS[table], most),
        )
        ours = [row[0] for row in cursor.fetchall()]
        if len(ours) < min(len(waiting), most):
            self._in_company_until = time.monotonic() + COMPANY
        return ours

    def _in_company(self) -> bool:
        return time.monotonic() < self._in_company_until

    def next_due(self) -> float | None:
        """Return the seconds until a row is due, 0 if one is, or None when there is none."""
        with self._sessions.transaction(LIMIT) as cursor:
            cursor.execute(
                "SELECT CASE WHEN EXISTS (SELECT FROM taskbridge_outbox WHERE road <> 'held') THEN 0"
                " ELSE (SELECT extract(epoch FROM min(due) - now()) FROM taskbridge_delayed) END"
            )
            seconds = cursor.fetchone()[0]
        return None if seconds is None else max(0.0, float(seconds))


class _Claim:
    def __init__(self, sessions: Sessions, cursor: Any, table: Table) -> None:
        self.rows: Sequence[WaitingRow] = ()
        self.flags: Mapping[str, Flag] = {}
        self.busy = False
        self.shards: Sequence[int] = ()
        self._sessions = sessions
        self._cursor = cursor
        self._table = table
        self._notes: list[int] = []

    def begin(self, ids: Mapping[Side, Collection[int]]) -> None:
        # In a transaction of its own: should this process die, the note stays, and a repeat is explained.
        with self._sessions.transaction(LIMIT) as cursor:
            for side, some in ids.items():
                if some:
                    cursor.execute(
                        'INSERT INTO taskbridge_sending ("table", road, shards, ids)'
                        " VALUES (%s, %s, %s, %s) RETURNING id",
                        (self._table, side, _array(self.shards), _array(some)),
                    )
                    self._notes.append(cursor.fetchone()[0])

    def finish(self, gone: Collection[int], doubtful: Mapping[Side, Collection[int]]) -> None:
        if gone:
            self._cursor.execute(
                f"DELETE FROM taskbridge_{self._table} WHERE id = ANY(%s::bigint[])",  # noqa: S608
                (_array(gone),),
            )
        for side, some in doubtful.items():
            if some:
                _mark(self._cursor, self._table, side, _array(some), self.shards)
        if self._notes:
            self._cursor.execute("DELETE FROM taskbridge_sending WHERE id = ANY(%s::bigint[])", (_array(self._notes),))


def _read(
    cursor: Any, table: Table, limit: int, after: WaitingRow | None, shards: Sequence[int]
) -> Sequence[WaitingRow]:
    where, parameters = _place(table, after)
    order = _ORDER[table]
    cursor.execute(
        f"SELECT {_COLUMNS}, {_DUE[table]} FROM ("  # noqa: S608
        f"SELECT *, sum(octet_length(body)) OVER (ORDER BY {order}) - octet_length(body) AS before"
        f" FROM (SELECT * FROM taskbridge_{table} AS row WHERE {_MAY_GO[table]} AND shard = ANY(%s::smallint[])"
        f" AND {where} ORDER BY {order} LIMIT %s) AS due_rows) AS counted WHERE before < %s ORDER BY {order}",
        (_array(shards), *parameters, limit, MOST_BYTES),
    )
    return [_row(table, *values) for values in cursor.fetchall()]


def _mark_abandoned(cursor: Any, table: Table, shards: Sequence[int]) -> None:
    """
    Mark the rows that a relay was about to publish when it died.

    A note of a relay that lives has none of these shards: it holds their locks for as long as its note is there.
    """
    cursor.execute(
        'SELECT id, road, ids, shards::smallint[] FROM taskbridge_sending WHERE "table" = %s'
        " AND shards::smallint[] && %s::smallint[]",
        (table, _array(shards)),
    )
    for note, side, ids, covered in cursor.fetchall():
        # The others are marked already, or somebody else's to mark.
        _mark(cursor, table, side, ids, sorted(set(covered) & set(shards)))
        rest = sorted(set(covered) - set(shards))
        if rest:
            cursor.execute("UPDATE taskbridge_sending SET shards = %s WHERE id = %s", (_array(rest), note))
        else:
            cursor.execute("DELETE FROM taskbridge_sending WHERE id = %s", (note,))


def _array(numbers: Iterable[int]) -> str:
    """Return PostgreSQL's literal of an array: much faster to read for it than the list that drivers make."""
    return f"{{{','.join(map(str, numbers))}}}"


def _mark(cursor: Any, table: Table, side: Side, ids: str, shards: Sequence[int]) -> None:
    """Count a publish of unknown end; a row that nobody had tried before may go to that side only from now on."""
    cursor.execute(
        f"UPDATE taskbridge_{table} SET attempts = least(attempts + 1, %s),"  # noqa: S608
        " road = CASE WHEN attempts = 0 THEN %s ELSE road END"
        " WHERE id = ANY(%s::bigint[]) AND shard = ANY(%s::smallint[])",
        (MOST_ATTEMPTS, f"{side}-again", ids, _array(shards)),
    )


def _place(table: Table, after: WaitingRow | None) -> tuple[str, tuple[Any, ...]]:
    """Return the condition, with its parameters, that a row comes later than `after`."""
    if after is None:
        return "true", ()
    if table == "delayed":
        return "(due, id) > (%s, %s)", (after.pending.due, after.id)
    return "id > %s", (after.id,)


def _row(
    table: Table,
    number: int,
    service: str,
    key: str,
    task: str,
    task_id: str,
    body: Any,
    content_type: str,
    content_encoding: str,
    headers: Any,
    properties: Any,
    epoch: int,
    producer: str,
    seq: int,
    road: Any,
    attempts: int,
    due: Any,
) -> WaitingRow:
    # Drivers differ: bytes or memoryview.
    message = Message(task, task_id, bytes(body), content_type, content_encoding, bytes(headers), bytes(properties))
    pending = PendingMessage(service, key, message, due, epoch, producer, seq, road, attempts)
    return WaitingRow(number, table, pending)
