"""
The ledger of tasks with `once=True`, in PostgreSQL.

Claims are transactions of the bridge's own connection. The body's transaction is the task's, over Django's connection,
so that its effects and its ending are committed together. It holds an advisory lock, by which others see that the
process that claimed is still there: when it dies, its execution may be claimed at once. The lease is for a process
that cannot be reached and whose connection the server has not given up.

Nothing depends on lock or lease being right: whoever claims raises the token, and an ending is written under the
latest token only.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from typing import Any

from django.db import connections, transaction

from taskbridge.adapters.celery.once import Claim, Ending
from taskbridge.contrib.django.session import Sessions
from taskbridge.exceptions import LeaseLost
from taskbridge.record import Identity

LIMIT = 5.0
"""Seconds for one statement of a claim."""

LOCK_ATTEMPTS = 20
LOCK_PAUSE = 0.05
"""Seconds between the attempts to lock what a claim of somebody else may hold for a moment."""

PRUNE_LIMIT = 60.0
"""Seconds for the deletion of one batch."""

_IDENTITY = "task_id = %s AND retries = %s AND nesting = %s"

_EXPIRED = {
    "finished": "finished_at < now() - make_interval(secs => %s)",
    "abandoned": "outcome = '' AND leased_until < now() - make_interval(secs => %s)",
}


class DjangoLedger:
    """The table `taskbridge_execution`; implements `taskbridge.adapters.celery.once.Ledger`."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def claim(self, identity: Identity, task: str, lease: float) -> Claim | Ending | None:
        """Return a claim for `lease` seconds, the ending of what has ended, or None while somebody else is at it."""
        with self._sessions.transaction(LIMIT) as cursor:
            cursor.execute(
                "INSERT INTO taskbridge_execution (task_id, retries, nesting, task, token, leased_until, outcome,"
                " created_at) VALUES (%s, %s, %s, %s, 1, now() + make_interval(secs => %s), '', now())"
                " ON CONFLICT (task_id, retries, nesting) DO NOTHING RETURNING token",
                (*identity, task, lease),
            )
            if cursor.fetchone() is not None:
                return Claim(identity, 1)
            cursor.execute(
                "SELECT outcome, result, token, leased_until <= clock_timestamp() FROM taskbridge_execution"  # noqa: S608
                f" WHERE {_IDENTITY}",
                identity,
            )
            row = cursor.fetchone()
            if row is None:
                return None
            outcome, result, token, expired = row
            if outcome:
                return Ending(outcome, bytes(result))
            alone = _try_lock(cursor, identity)
            if not alone and not expired:
                return None
            cursor.execute(
                "UPDATE taskbridge_execution SET token = token + 1, leased_until = now() + make_interval(secs => %s)"  # noqa: S608
                f" WHERE {_IDENTITY} AND token = %s AND outcome = '' RETURNING token",
                (lease, *identity, token),
            )
            row = cursor.fetchone()
            return None if row is None else Claim(identity, row[0], forced=not alone)

    @contextmanager
    def transaction(self, claim: Claim) -> Iterator[None]:
        """Run a body in a transaction of Django's; raise LeaseLost at once when the claim is not the latest."""
        with transaction.atomic(using=self._sessions.alias):
            with connections[self._sessions.alias].cursor() as cursor:
                for attempt in range(LOCK_ATTEMPTS):
                    # Whoever claimed by force finds the lock taken, and goes without it.
                    if _try_lock(cursor, claim.identity) or claim.forced:
                        break
                    if attempt < LOCK_ATTEMPTS - 1:
                        time.sleep(LOCK_PAUSE)
                cursor.execute(
                    f"SELECT FROM taskbridge_execution WHERE {_IDENTITY} AND token = %s AND outcome = ''",
                    (*claim.identity, claim.token),
                )
                if cursor.fetchone() is None:
                    raise LeaseLost(_lost(claim))
            yield

    def finish(self, claim: Claim, ending: Ending) -> None:
        """Write the ending within the body's transaction; raise LeaseLost when the claim is not the latest."""
        with connections[self._sessions.alias].cursor() as cursor:
            if not _end(cursor, claim, ending):
                raise LeaseLost(_lost(claim))

    def record(self, claim: Claim, ending: Ending) -> Ending:
        """Write the ending outside of the body's transaction, and return what stands in the ledger then."""
        with self._sessions.transaction(LIMIT) as cursor:
            # Waits for a commit that is still under way.
            if _end(cursor, claim, ending):
                return ending
            cursor.execute(
                "SELECT outcome, result FROM taskbridge_execution"  # noqa: S608
                f" WHERE {_IDENTITY} AND token = %s AND outcome <> ''",
                (*claim.identity, claim.token),
            )
            row = cursor.fetchone()
        if row is None:
            raise LeaseLost(_lost(claim))
        return Ending(row[0], bytes(row[1]))

    def was_retried(self, identity: Identity) -> bool:
        """Return whether a later attempt of the same task has been claimed."""
        with self._sessions.transaction(LIMIT) as cursor:
            cursor.execute(
                "SELECT FROM taskbridge_execution WHERE task_id = %s AND retries > %s AND nesting = %s LIMIT 1",
                identity,
            )
            return cursor.fetchone() is not None

    def expired(self, age: float) -> int:
        """Return how many executions ended, or were given up, more than `age` seconds ago."""
        with self._sessions.transaction(PRUNE_LIMIT) as cursor:
            total = 0
            for condition in _EXPIRED.values():
                cursor.execute(f"SELECT count(*) FROM taskbridge_execution WHERE {condition}", (age,))  # noqa: S608
                total += cursor.fetchone()[0]
        return total

    def prune(self, age: float, batch: int) -> Iterator[int]:
        """Delete executions that ended, or were given up, more than `age` seconds ago; yield the size of each batch."""
        for condition in _EXPIRED.values():
            deleted = batch
            while deleted == batch:
                with self._sessions.transaction(PRUNE_LIMIT) as cursor:
                    cursor.execute(
                        "DELETE FROM taskbridge_execution WHERE id IN (SELECT id FROM taskbridge_execution"  # noqa: S608
                        f" WHERE {condition} LIMIT %s FOR UPDATE SKIP LOCKED)",
                        (age, batch),
                    )
                    deleted = cursor.rowcount
                yield deleted


def _end(cursor: Any, claim: Claim, ending: Ending) -> bool:
    cursor.execute(
        "UPDATE taskbridge_execution SET outcome = %s, result = %s, finished_at = clock_timestamp()"  # noqa: S608
        f" WHERE {_IDENTITY} AND token = %s AND outcome = ''",
        (ending.outcome, ending.result, *claim.identity, claim.token),
    )
    return bool(cursor.rowcount)


def _try_lock(cursor: Any, identity: Identity) -> bool:
    digest = sha256("\x1f".join(map(str, ("taskbridge", *identity))).encode()).digest()
    cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", (int.from_bytes(digest[:8], "big", signed=True),))
    return bool(cursor.fetchone()[0])


def _lost(claim: Claim) -> str:
    return f"task id {claim.identity.task_id}: another process has taken it over"
