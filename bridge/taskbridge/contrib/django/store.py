"""Flags and pending messages in PostgreSQL, for `taskbridge.ports`."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from datetime import datetime
from threading import Thread
from typing import Any, Literal
from zlib import crc32

from taskbridge.contrib.django.session import Sessions
from taskbridge.cutover import Fence, Flag, Stage
from taskbridge.exceptions import ConfigurationError, StoreUnavailable
from taskbridge.ports import PendingMessage

log = logging.getLogger("taskbridge.store")

FLAG_LIMIT = 0.2
"""Seconds that a dispatch waits for flags."""

FIRST_FLAG_LIMIT = 2.0
"""Seconds that the first dispatch of a process waits for flags, which includes opening a connection."""

WRITE_LIMIT = 5.0
"""Seconds for one statement that a dispatch cannot do without."""

CAPACITY_INTERVAL = 2.0
"""Seconds for which a process believes that a table has room."""

SHARDS = 64

Table = Literal["delayed", "outbox"]


def shard(service: str, key: str) -> int:
    """Return the shard of a key, 0 to 63; rows of one shard are relayed by one process at a time."""
    return crc32(f"{service}\x1f{key}".encode()) % SHARDS


FLAGS = (
    "SELECT service, stage, basis_points, epoch, version, '' AS task, hold, false AS cleared, fence::text, changed_at"
    " FROM taskbridge_service_flag WHERE {0}"
    " UNION ALL SELECT service, stage, basis_points, epoch, version, task, hold, cleared, NULL, changed_at"
    " FROM taskbridge_task_flag WHERE {0}"
)
"""All flags that meet a condition; the columns before the last are the arguments of `flag`."""


def flag(
    service: str,
    stage: str,
    basis_points: int,
    epoch: int,
    version: int,
    task: str = "",
    hold: bool = False,
    cleared: bool = False,
    fence: str | None = None,
) -> Flag:
    """Return the flag in a row; raises ConfigurationError for a stage that a newer release wrote."""
    if stage not in set(Stage):
        raise ConfigurationError(
            f"service {service!r} is in stage {stage!r}, which this version of taskbridge does not know: upgrade it"
        )
    built = None if fence is None else Fence.from_document(json.loads(fence))
    return Flag(service, Stage(stage), basis_points, epoch, version, task, hold, cleared, built)


@dataclass(frozen=True, slots=True)
class FlagState:
    """A flag and when it changed."""

    flag: Flag
    changed_at: datetime


class DjangoStore:
    """
    The bridge's tables in the Django database `alias`: a FlagStore and a PendingStore.

    Every call is a transaction of its own over the bridge's own connection, whatever the caller's is doing.
    """

    def __init__(
        self, alias: str = "default", max_pending: int = 1_000_000, setting: str = 'TASKBRIDGE["database"]'
    ) -> None:
        """
        `max_pending` is how many rows each of the tables may hold, `setting` where the alias comes from.

        Raises ConfigurationError unless `alias` is a PostgreSQL database of Django's settings.
        """
        self.sessions = Sessions(alias, setting)
        self._max_pending = max_pending
        self._reading: Thread | None = None
        self._looked_in = 0
        self._room_until: dict[Table, float] = {}
        self._strange: set[tuple[str, str]] = set()

    def flags_since(self, version: int) -> Sequence[Flag]:
        """
        Return the flags whose version is above `version`.

        Raises StoreUnavailable after FLAG_LIMIT at the latest, even when the server hangs or the network swallows
        everything, which no time limit of the driver covers: hence a thread, which ends with the look.
        """
        if self._reading is not None and self._reading.is_alive():
            raise StoreUnavailable(
                f"database {self.sessions.alias!r} still does not answer an earlier look at the flags"
            )
        limit = FLAG_LIMIT
        if self._looked_in != os.getpid():
            self._looked_in = os.getpid()
            limit = FIRST_FLAG_LIMIT
        answer: Future[list[Flag]] = Future()
        self._reading = Thread(target=self._answer_flags, args=(version, limit, answer), daemon=True)
        self._reading.start()
        try:
            return answer.result(timeout=limit)
        except FutureTimeoutError:
            raise StoreUnavailable(
                f"database {self.sessions.alias!r} did not answer within {limit:g} s when asked for flags"
            ) from None

    def _answer_flags(self, version: int, limit: float, answer: Future[list[Flag]]) -> None:
        try:
            with self.sessions.transaction(limit) as cursor:
                cursor.execute(f"{FLAGS.format('version > %s')} ORDER BY version", (version, version))
                rows = cursor.fetchall()
            answer.set_result([flag(*row[:-1]) for row in rows if self._is_known(row[0], row[1])])
        except BaseException as error:  # noqa: BLE001 - it is raised in the thread that waits for the answer
            if not answer.done():
                answer.set_exception(error)

    def flag_states(self) -> dict[str, FlagState]:
        """Return the services' flags, with the time of their last change; a service never moved has none."""
        return {state.flag.service: state for state in self._states() if not state.flag.task}

    def task_flag_states(self, service: str) -> dict[str, FlagState]:
        """Return the flags of single tasks of a service that are not cleared, by task name."""
        found = (state for state in self._states() if state.flag.service == service and state.flag.task)
        return {state.flag.task: state for state in found if not state.flag.cleared}

    def _states(self) -> list[FlagState]:
        with self.sessions.transaction(WRITE_LIMIT) as cursor:
            cursor.execute(FLAGS.format("true"))
            rows = cursor.fetchall()
        return [FlagState(flag(*row[:-1]), row[-1]) for row in rows]

    def _is_known(self, service: str, stage: str) -> bool:
        if stage in set(Stage):
            return True
        # A newer release wrote it: this service stays as this process knows it, and the others must not suffer.
        if (service, stage) not in self._strange:
            self._strange.add((service, stage))
            log.warning(
                "service %r is in stage %r, which this version of taskbridge does not know: upgrade it", service, stage
            )
        return False

    def delay(self, pending: PendingMessage) -> None:
        """Keep a message until it is due; raises StoreUnavailable, or ConfigurationError when the table is full."""
        self._insert("delayed", pending)

    def outbox(self, pending: PendingMessage) -> None:
        """Keep a message for the relay to send to Kafka; raises as `delay` does."""
        self._insert("outbox", pending)

    def outbox_many(self, pending: Sequence[PendingMessage]) -> None:
        """Keep all of these messages for the relay, or none; raises as `delay` does."""
        self._insert("outbox", *pending)

    def _insert(self, table: Table, *pending: PendingMessage) -> None:
        self.check_room(table)
        with self.sessions.transaction(WRITE_LIMIT) as cursor:
            for one in pending:
                self.insert(cursor, table, one)

    def insert(self, cursor: Any, table: Table, pending: PendingMessage) -> None:
        """Write a row in the transaction of `cursor`; raises ConfigurationError for what cannot be stored."""
        message = pending.message
        columns = {
            "service": pending.service,
            "key": pending.key,
            "shard": shard(pending.service, pending.key),
            "task": message.task,
            "task_id": message.task_id,
            "body": message.body,
            "content_type": message.content_type,
            "content_encoding": message.content_encoding,
            "headers": message.headers,
            "properties": message.properties,
            "epoch": pending.epoch,
            "producer": pending.producer,
            "seq": pending.seq,
            "attempts": pending.attempts,
        }
        due = "%s"
        if table == "outbox":
            columns["road"] = pending.road
        elif pending.countdown is None:
            columns["due"] = pending.due
        else:
            columns["due"] = pending.countdown
            # The clock of the database, which also decides when the row is due.
            due = "clock_timestamp() + make_interval(secs => %s)"
        if any("\0" in value for value in columns.values() if isinstance(value, str)):
            raise ConfigurationError(
                f"task {message.task}[{message.task_id}] cannot be put aside: its key, {pending.key!r}, or its id "
                f"holds a NUL character, which PostgreSQL does not store; choose another key"
            )
        names = ", ".join(columns)
        places = ", ".join(due if name == "due" else "%s" for name in columns)
        cursor.execute(
            f"INSERT INTO taskbridge_{table} ({names}, created_at) VALUES ({places}, now())",  # noqa: S608
            tuple(columns.values()),
        )

    def check_room(self, table: Table) -> None:
        """Raise ConfigurationError when a table holds as many rows as it may."""
        now = time.monotonic()
        if now < self._room_until.get(table, 0.0):
            return
        with self.sessions.transaction(WRITE_LIMIT) as cursor:
            # The span of ids is two look-ups in an index and never less than the number of rows.
            cursor.execute(f"SELECT coalesce(max(id) - min(id) + 1, 0) FROM taskbridge_{table}")  # noqa: S608
            count = cursor.fetchone()[0]
            if count >= self._max_pending:
                cursor.execute(
                    f"SELECT count(*) FROM (SELECT FROM taskbridge_{table} LIMIT %s) AS rows",  # noqa: S608
                    (self._max_pending,),
                )
                count = cursor.fetchone()[0]
        if count >= self._max_pending:
            raise ConfigurationError(
                f"the table taskbridge_{table} is full ({self._max_pending:,} rows): see that `taskbridge relay` runs "
                f'and keeps up, or raise TASKBRIDGE["max_pending"]'
            )
        self._room_until[table] = now + CAPACITY_INTERVAL

    def pending_counts(self) -> dict[str, dict[str, int]]:
        """Return the number of rows per table (`delayed`, `outbox`) and service."""
        counts: dict[str, dict[str, int]] = {"delayed": {}, "outbox": {}}
        with self.sessions.transaction(WRITE_LIMIT) as cursor:
            cursor.execute(
                "SELECT 'delayed', service, count(*) FROM taskbridge_delayed GROUP BY service"
                " UNION ALL SELECT 'outbox', service, count(*) FROM taskbridge_outbox GROUP BY service"
            )
            for table, service, count in cursor.fetchall():
                counts[table][service] = count
        return counts
