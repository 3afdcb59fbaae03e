"""How many rows wait for the relay, for whoever watches."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from threading import Lock

from taskbridge.adapters.monitoring.samples import Pending
from taskbridge.contrib.django.session import Sessions
from taskbridge.exceptions import StoreUnavailable

LIMIT = 3.0
"""Seconds to count; a scrape that takes longer is given up by who asked."""

REFRESH = 30.0
"""Seconds for which a count is good enough: to count a table that is full means to read it."""

_COUNT = (
    "SELECT 'delayed', service, count(*), extract(epoch FROM now() - min(due)) FROM taskbridge_delayed GROUP BY service"
    " UNION ALL SELECT 'outbox', service, count(*),"
    " extract(epoch FROM now() - min(created_at) FILTER (WHERE road <> 'held')) FROM taskbridge_outbox GROUP BY service"
)
"""Rows that are held wait for their turn and not for the relay, so they do not age."""


class PendingRows:
    """The rows in the tables of one database, counted anew when what is known is too old; any thread may ask."""

    def __init__(
        self, sessions: Sessions, services: Collection[str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`services` are told of even when nothing waits of them; `clock` returns seconds."""
        self._sessions = sessions
        self._services = services
        self._clock = clock
        self._lock = Lock()
        self._known: tuple[Pending, ...] = ()
        self._until = float("-inf")

    def read(self) -> tuple[Pending, ...]:
        """Return what waits; nothing at all while the database does not answer, which the relay itself tells of."""
        with self._lock:
            now = self._clock()
            if now >= self._until:
                self._until = now + REFRESH
                try:
                    self._known = self._count()
                except StoreUnavailable:
                    self._known = ()
            return self._known

    def _count(self) -> tuple[Pending, ...]:
        found = {
            (table, service): Pending(table, service, 0, 0.0)
            for table in ("delayed", "outbox")
            for service in self._services
        }
        with self._sessions.transaction(LIMIT) as cursor:
            cursor.execute(_COUNT)
            for table, service, rows, oldest in cursor.fetchall():
                found[table, service] = Pending(table, service, rows, max(0.0, float(oldest or 0.0)))
        return tuple(found.values())
