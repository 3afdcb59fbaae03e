"""The tables of waiting messages, as the relay empties them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from taskbridge.contrib.django.session import Sessions
from taskbridge.contrib.django.store import SHARDS
from taskbridge.contrib.django.transition import LOCK
from taskbridge.ports import PendingMessage
from taskbridge.record import Message
from taskbridge.relay import Claim, Table, WaitingRow

LIMIT = 10.0
"""Seconds for one statement."""

ABANDONED = 120.0
"""Seconds after which the database ends the transaction of a relay that is not heard of any more."""

SHARDS_PER_CLAIM = 16
"""Of 64 shards, those that one claim may take; the others are left to other replicas."""

WINDOW = 4
"""How many batches of due rows are looked at to find shards that are free."""

MOST_ATTEMPTS = 32_767

_COLUMNS = (
    "id, service, key, task, task_id, body, content_type, content_encoding, headers, properties, epoch, producer, seq,"
    " attempts"
)
_DUE: dict[Table, str] = {"delayed": "due", "outbox": "created_at"}
_IS_DUE: dict[Table, str] = {"delayed": "due <= now()", "outbox": "true"}
_ORDER: dict[Table, str] = {"delayed": "due, id", "outbox": "id"}
_LOCKS: dict[Table, int] = {"delayed": LOCK + 1, "outbox": LOCK + 2}


class DjangoRelayStore:
    """A RelayStore over the bridge's own connections."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    @contextmanager
    def claim(self, table: Table, limit: int, after: WaitingRow | None = None) -> Iterator[Claim]:
        """
        Yield due rows of shards that this transaction has locked.

        The locks come first and the rows are read afterwards, by a statement of its own: rows that a former holder of
        a lock has deleted are gone from its view, and rows that he left are in it.
        """
        with self._sessions.transaction(LIMIT) as cursor:
            cursor.execute(f"SET LOCAL idle_in_transaction_session_timeout = {round(ABANDONED * 1000)}")
            where, parameters = _place(table, after)
            cursor.execute(
                f"SELECT shard FROM (SELECT shard, {_ORDER[table]} FROM taskbridge_{table}"  # noqa: S608
                f" WHERE {_IS_DUE[table]} AND {where} ORDER BY {_ORDER[table]} LIMIT %s) AS oldest"
                f" GROUP BY shard ORDER BY min({_ORDER[table].split(',')[0]})",
                (*parameters, limit * WINDOW),
            )
            waiting = [row[0] for row in cursor.fetchall()]
            rows: list[WaitingRow] = []
            if waiting:
                cursor.execute(
                    "SELECT shard FROM unnest(%s::integer[]) AS shard"
                    " WHERE pg_try_advisory_xact_lock(%s, shard) LIMIT %s",
                    (waiting, _LOCKS[table], min(SHARDS_PER_CLAIM, SHARDS)),
                )
                ours = [row[0] for row in cursor.fetchall()]
                cursor.execute(
                    f"SELECT {_COLUMNS}, {_DUE[table]} FROM taskbridge_{table}"  # noqa: S608
                    f" WHERE {_IS_DUE[table]} AND shard = ANY(%s::smallint[]) AND {where}"
                    f" ORDER BY {_ORDER[table]} LIMIT %s",
                    (ours, *parameters, limit),
                )
                rows = [_row(table, *values) for values in cursor.fetchall()]
            yield _Claim(self._sessions, cursor, table, rows)

    def next_due(self) -> float | None:
        """Return the seconds until a row is due, 0 if one is, or None when there is none."""
        with self._sessions.transaction(LIMIT) as cursor:
            cursor.execute(
                "SELECT CASE WHEN EXISTS (SELECT FROM taskbridge_outbox) THEN 0"
                " ELSE (SELECT extract(epoch FROM min(due) - now()) FROM taskbridge_delayed) END"
            )
            seconds = cursor.fetchone()[0]
        return None if seconds is None else max(0.0, float(seconds))


class _Claim:
    def __init__(self, sessions: Sessions, cursor: Any, table: Table, rows: Sequence[WaitingRow]) -> None:
        self.rows = rows
        self._sessions = sessions
        self._cursor = cursor
        self._table = table

    def attempt(self, ids: Collection[int]) -> Collection[int]:
        # In a transaction of its own, which is why the claim holds locks on shards and none on rows: should this
        # process die, the mark stays and the repeat is explained.
        with self._sessions.transaction(LIMIT) as cursor:
            cursor.execute(
                f"UPDATE taskbridge_{self._table} SET attempts = least(attempts + 1, %s)"  # noqa: S608
                " WHERE id = ANY(%s::bigint[]) RETURNING id",
                (MOST_ATTEMPTS, list(ids)),
            )
            return [row[0] for row in cursor.fetchall()]

    def finish(self, gone: Collection[int], untried: Collection[int]) -> None:
        if gone:
            self._cursor.execute(
                f"DELETE FROM taskbridge_{self._table} WHERE id = ANY(%s::bigint[])",  # noqa: S608
                (list(gone),),
            )
        if untried:
            self._cursor.execute(
                f"UPDATE taskbridge_{self._table} SET attempts = attempts - 1"  # noqa: S608
                " WHERE id = ANY(%s::bigint[]) AND attempts > 0",
                (list(untried),),
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
    attempts: int,
    due: Any,
) -> WaitingRow:
    # Drivers differ: bytes or memoryview.
    message = Message(task, task_id, bytes(body), content_type, content_encoding, bytes(headers), bytes(properties))
    return WaitingRow(number, table, PendingMessage(service, key, message, due, epoch, producer, seq), attempts)
