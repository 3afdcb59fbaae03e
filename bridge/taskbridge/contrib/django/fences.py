"""
What keeps the order of a key while keys of an ordered service change side.

Every dispatch of an ordered service, and every batch of the relay with its rows, holds a shared advisory lock from the
reading of the flag to the end of the publish. A transition takes the same lock exclusively: it waits for what is under
way, and whoever comes later sees the flag that it wrote. Keys that change side are fenced: their messages wait as held
rows until nothing of them is left on the side where they were.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from zlib import crc32

from taskbridge.contrib.django.session import QUERY_CANCELED, Sessions, state_of
from taskbridge.contrib.django.store import DjangoStore, flag, shard
from taskbridge.cutover import BASIS_POINTS, Fence, Flag, Stage
from taskbridge.dispatch.ordered import GateBusy
from taskbridge.exceptions import StoreUnavailable, TransitionRefused
from taskbridge.ports import PendingMessage, Road
from taskbridge.settings import Settings

LOCK = 0x7461736E
"""Class of the advisory locks of ordered services; the number beside it is a hash of the service's name."""

MARGIN = 10.0
"""Seconds, beside the time that a publish may take, for which a transition waits for dispatches under way."""

_COLUMNS = "service, stage, basis_points, epoch, version, '' AS task, hold, false AS cleared, fence::text"


def lock_number(service: str) -> int:
    """Return the number of a service's lock, a signed 32-bit integer; two services that share one wait in vain."""
    number = crc32(service.encode())
    return number - (1 << 32) if number >= 1 << 31 else number


def exclusive(cursor: Any, service: str, settings: Settings) -> None:
    """
    Wait until no dispatch of an ordered service is under way, and let none begin before this transaction ends.

    Call it before the flag is read for the last time. Raises the driver's error when a dispatch takes longer than a
    publish may.
    """
    wait = round((settings.publish_timeout + MARGIN) * 1000)
    cursor.execute(f"SET LOCAL lock_timeout = {wait}; SET LOCAL statement_timeout = {wait + 1000}")
    cursor.execute("SELECT pg_advisory_xact_lock(%s, %s)", (LOCK, lock_number(service)))


def share(cursor: Any, services: Iterable[str], *, alone: bool = False) -> dict[str, Flag]:
    """
    Hold the transitions of ordered services back until this transaction ends; return the services' flags as they stand.

    With `alone` their dispatches are held back too. A service that was never moved is `off`.
    """
    suffix = "" if alone else "_shared"
    names = sorted(services)
    for name in names:
        cursor.execute(f"SELECT pg_advisory_xact_lock{suffix}(%s, %s)", (LOCK, lock_number(name)))
    # A statement of its own: what a transition that was waited for has written must be seen.
    cursor.execute(f"SELECT {_COLUMNS} FROM taskbridge_service_flag WHERE service = ANY(%s)", (names,))  # noqa: S608
    found = {row[0]: flag(*row) for row in cursor.fetchall()}
    return {name: found.get(name) or Flag(name, Stage.OFF) for name in names}


def on_kafka(state: Flag) -> int:
    """Return below which bucket keys are on Kafka's side."""
    if state.stage is Stage.COMPLETE:
        return BASIS_POINTS
    return state.basis_points if state.stage is Stage.LIVE else 0


def after_move(before: Flag, after: Flag) -> Fence | None:
    """
    Return the fence that stands once an ordered service goes from `before` to `after`.

    It covers the keys that change side, and those of a fence that stands already: both have to wait until nothing of
    them is left anywhere that they were.
    """
    standing = before.fence
    was, will = on_kafka(before), on_kafka(after)
    if was == will:
        return standing
    low, high = sorted((was, will))
    sides = {"celery" if will > was else "kafka"}
    if standing is not None:
        low, high, sides = min(low, standing.low), max(high, standing.high), sides | standing.sides
    return Fence(low, high, frozenset(sides))


def hold_rows(cursor: Any, service: str) -> int:
    """
    Hold back the rows of a service that the flag was to decide on, because its keys change side; return how many.

    Rows that a relay was about to send when it died stay: the side that may have them is the only one to be given them.
    Relays that live have none of these in hand while this transaction has the lock to itself.
    """
    cursor.execute(
        "UPDATE taskbridge_outbox AS row SET road = note.road || '-again', attempts = greatest(attempts, 1)"
        " FROM taskbridge_sending AS note WHERE note.\"table\" = 'outbox' AND row.id = ANY(note.ids::bigint[])"
        " AND row.service = %s AND row.road = 'any'",
        (service,),
    )
    cursor.execute("UPDATE taskbridge_outbox SET road = 'held' WHERE service = %s AND road = 'any'", (service,))
    return int(cursor.rowcount)


def release_rows(cursor: Any, service: str) -> int:
    """Let held rows go where the flag says when they are sent; return how many."""
    cursor.execute("UPDATE taskbridge_outbox SET road = 'any' WHERE service = %s AND road = 'held'", (service,))
    return int(cursor.rowcount)


def check_ready(cursor: Any, before: Flag, after: Flag, seconds: float) -> None:
    """
    Raise TransitionRefused when a process may not know yet that an ordered service has left `off`.

    Such a one does not look at the database before it dispatches, so keys must not change side yet. After `seconds`
    (`flag_stale_after`) each has looked, or is at its floor.
    """
    if before.stage not in {Stage.MIRROR, Stage.SHADOW} or on_kafka(after) == on_kafka(before):
        return
    cursor.execute(
        "SELECT extract(epoch FROM clock_timestamp() - changed_at) FROM taskbridge_service_flag WHERE service = %s",
        (before.service,),
    )
    row = cursor.fetchone()
    rest = seconds - float(row[0]) if row else 0.0
    if rest > 0:
        raise TransitionRefused(
            f"{before.service} is ordered and has been in {before.stage} for less than {seconds:g} s, so that a process"
            f" may not know it yet: repeat in {rest:.0f} s"
        )


@dataclass(slots=True)
class _Passage:
    """One dispatch inside the gate."""

    store: DjangoStore
    cursor: Any
    flag: Flag
    waiting: Road | None

    def keep(self, pending: PendingMessage) -> None:
        """Put the message into the outbox, in the transaction of the gate."""
        self.store.check_room("outbox")
        self.store.insert(self.cursor, "outbox", pending)


class Gates:
    """The gate of every ordered service: see `taskbridge.dispatch.ordered.Gates`."""

    def __init__(self, store: DjangoStore, settings: Settings) -> None:
        self._store = store
        self._limit = 2 * (settings.publish_timeout + MARGIN)

    @contextmanager
    def open(self, service: str, key: str) -> Iterator[_Passage]:
        """Yield what stands in the database about a key, while no transition of its service can pass."""
        sessions: Sessions = self._store.sessions
        entered = False
        try:
            with sessions.transaction(self._limit, _look(service, key)) as cursor:
                *columns, waiting, held = cursor.fetchone()
                known = flag(*columns) if columns[0] is not None else Flag(service, Stage.OFF)
                entered = True
                yield _Passage(self._store, cursor, known, "held" if held else "any" if waiting else None)
        except StoreUnavailable as error:
            if not entered and state_of(error.__cause__) == QUERY_CANCELED:
                raise GateBusy(
                    f"service {service!r} changes its stage, and that takes longer than {self._limit:g} s: repeat"
                ) from error
            raise


def _look(service: str, key: str) -> str:
    """
    Return the statements that lock and look, to be sent at once.

    Each has a snapshot of its own, so the last one sees what a transition wrote that the lock was waited for. The name
    of a service needs no quoting, and a key comes as hexadecimal digits. A key with a NUL never has rows.
    """
    encoded = key.replace("\0", "").encode().hex()
    same = "false" if "\0" in key else f"key = convert_from(decode('{encoded}', 'hex'), 'UTF8')"
    return (
        f"SELECT pg_advisory_xact_lock_shared({LOCK}, {lock_number(service)});"  # noqa: S608
        f" SELECT {_COLUMNS}, waiting, held"
        " FROM (SELECT count(*) > 0 AS waiting, coalesce(bool_or(road = 'held'), false) AS held FROM taskbridge_outbox"
        f" WHERE service = '{service}' AND shard = {shard(service, key)} AND {same}) AS rows"
        f" LEFT JOIN taskbridge_service_flag ON service = '{service}'"
    )
