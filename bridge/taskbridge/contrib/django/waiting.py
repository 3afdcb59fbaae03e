"""Messages that wait until they are due: what there is, and cancelling it."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from taskbridge.adapters.celery.announce import announce_revoked
from taskbridge.contrib.django.claims import SHARD_LOCKS
from taskbridge.contrib.django.session import QUERY_CANCELED, Sessions, state_of
from taskbridge.exceptions import MalformedRecord, StoreUnavailable
from taskbridge.observation import Batch, RunRow
from taskbridge.record import Message

if TYPE_CHECKING:
    from taskbridge.contrib.django.wiring import Bridge

log = logging.getLogger("taskbridge.waiting")

LIMIT = 10.0
"""Seconds to look, and to wait for a relay that is sending messages of the same keys."""

Fate = Literal["cancelled", "sent", "busy"]
"""What became of a message: cancelled, gone before it could be, or in a relay's hands for longer than the limit."""

_COLUMNS = "id, service, task, task_id, key, due, created_at, attempts, shard"


@dataclass(frozen=True, slots=True)
class Waiting:
    """A message in the table `delayed` of the database `alias`; `attempts` are publishes of unknown end."""

    alias: str
    id: int
    service: str
    task: str
    task_id: str
    key: str
    due: datetime
    created_at: datetime
    attempts: int
    shard: int


@dataclass(frozen=True, slots=True)
class Criteria:
    """Which messages are meant; what is None or empty does not matter. `task` may hold `*` and `?`."""

    service: str | None = None
    task: str | None = None
    key: str | None = None
    due_before: datetime | None = None
    task_ids: Sequence[str] = ()
    ids: Sequence[int] = ()


def find(sessions: Sessions, criteria: Criteria, limit: int | None = None) -> list[Waiting]:
    """Return the messages that are meant, the one that is due first at the head; raises StoreUnavailable."""
    conditions, parameters = _conditions(criteria)
    with sessions.transaction(LIMIT) as cursor:
        cursor.execute(
            f"SELECT {_COLUMNS} FROM taskbridge_delayed WHERE {conditions} ORDER BY due, id LIMIT %s",  # noqa: S608
            (*parameters, limit),
        )
        return [Waiting(sessions.alias, *row) for row in cursor.fetchall()]


def count(sessions: Sessions, criteria: Criteria) -> int:
    """Return how many messages are meant; raises StoreUnavailable."""
    conditions, parameters = _conditions(criteria)
    with sessions.transaction(LIMIT) as cursor:
        cursor.execute(f"SELECT count(*) FROM taskbridge_delayed WHERE {conditions}", parameters)  # noqa: S608
        return int(cursor.fetchone()[0])


def _conditions(criteria: Criteria) -> tuple[str, tuple[Any, ...]]:
    found: list[tuple[str, Any]] = []
    if criteria.service is not None:
        found.append(("service = %s", criteria.service))
    if criteria.task is not None:
        found.append(("task LIKE %s", _like(criteria.task)))
    if criteria.key is not None:
        found.append(("key = %s", criteria.key))
    if criteria.due_before is not None:
        found.append(("due < %s", criteria.due_before))
    if criteria.task_ids:
        found.append(("task_id = ANY(%s)", list(criteria.task_ids)))
    if criteria.ids:
        found.append(("id = ANY(%s::bigint[])", list(criteria.ids)))
    return " AND ".join(["true", *(condition for condition, _ in found)]), tuple(value for _, value in found)


def _like(pattern: str) -> str:
    for plain in "\\%_":
        pattern = pattern.replace(plain, f"\\{plain}")
    return pattern.replace("*", "%").replace("?", "_")


def cancel(bridge: Bridge, rows: Iterable[Waiting], who: str) -> dict[Waiting, Fate]:
    """
    Cancel messages, and return what became of each; one that had `attempts` may have arrived before that.

    A message that a relay has in its hands is waited for. As for a task that Celery's worker finds revoked, the result
    becomes REVOKED and `task_revoked` is sent. Raises StoreUnavailable; what was cancelled before stays so.
    """
    fates: dict[Waiting, Fate] = {}
    places: defaultdict[tuple[str, int], list[Waiting]] = defaultdict(list)
    for row in rows:
        places[row.alias, row.shard].append(row)
    if places:
        # What the end of a task means is the task's to say, and only workers import all of them by themselves.
        bridge.app.loader.import_default_modules()
    for (alias, _), some in places.items():
        removed = _remove(bridge.stores[alias].sessions, some)
        for row in some:
            if removed is None:
                fates[row] = "busy"
            elif row.id not in removed:
                fates[row] = "sent"
            else:
                fates[row] = "cancelled"
                log.warning("%s cancelled task %s[%s], due %s", who, row.task, row.task_id, row.due.isoformat())
                _tell(bridge, row, removed[row.id])
    return fates


def _remove(sessions: Sessions, rows: Sequence[Waiting]) -> dict[int, Message] | None:
    """Return the messages of those rows of one shard that are removed now, or None when a relay holds the shard."""
    locked = False
    try:
        with sessions.transaction(LIMIT) as cursor:
            # Who holds it alone may touch the rows: a relay that is sending them has it until it knows their end.
            cursor.execute("SELECT pg_advisory_xact_lock(%s, %s)", (SHARD_LOCKS["delayed"], rows[0].shard))
            locked = True
            cursor.execute(
                "DELETE FROM taskbridge_delayed WHERE id = ANY(%s::bigint[])"
                " RETURNING id, task, task_id, body, content_type, content_encoding, headers, properties",
                ([row.id for row in rows],),
            )
            removed = cursor.fetchall()
    except StoreUnavailable as error:
        if not locked and state_of(error.__cause__) == QUERY_CANCELED:
            return None
        raise
    return {
        number: Message(task, task_id, bytes(body), kind, encoding, bytes(headers), bytes(properties))
        for number, task, task_id, body, kind, encoding, headers, properties in removed
    }


def _tell(bridge: Bridge, row: Waiting, message: Message) -> None:
    try:
        announce_revoked(bridge.app, message, f"taskbridge@{bridge.numbering.source}")
    except Exception as error:  # noqa: BLE001 - the task's own receivers, or any result store's error: it is cancelled
        log.warning("task %s[%s] is cancelled, but its result does not say so: %r", row.task, row.task_id, error)
    service = bridge.settings.services.get(row.service)
    if service is None or not service.observe:
        return
    try:
        identity = message.identity()
    except MalformedRecord:
        return
    ended = RunRow(*identity, row.task, "kafka", "revoked", 0.0, time.time())
    bridge.observer.observe(Batch("run", row.service, bridge.numbering.source, [ended]))


def revoke(bridge: Bridge, task_ids: Collection[str], who: str) -> int:
    """Cancel all messages of these tasks that wait; return how many. Raises StoreUnavailable."""
    meant = Criteria(task_ids=list(task_ids))
    cancelled = 0
    for store in bridge.stores.values():
        rows = find(store.sessions, meant)
        fates = cancel(bridge, rows, who)
        cancelled += sum(fate == "cancelled" for fate in fates.values())
        for row, fate in fates.items():
            if fate == "busy":
                log.warning("task %s[%s] is being sent and cannot be cancelled any more", row.task, row.task_id)
    return cancelled
