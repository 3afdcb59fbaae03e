"""
Connections to PostgreSQL that belong to the bridge alone.

A caller's connection will not do: it may be inside a transaction that is rolled back, broken by an error, or looking at
an old snapshot. These connections are opened with what Django knows of the database, and used through the driver,
because Django's own wrapper belongs to one thread and refuses to work below a running event loop.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from django.conf import settings
from django.db import connections

from taskbridge.exceptions import ConfigurationError, StoreUnavailable

CONNECT_TIMEOUT = 3
"""Seconds to open a connection; libpq knows whole seconds only, and rounds one up to two."""

SOCKET_TIMEOUT = 5.0
"""Seconds after which unacknowledged data means that the network is gone."""

IDLE_CONNECTIONS = 2
"""Connections that a process keeps open while nobody uses them."""

NOT_MIGRATED = frozenset({"42P01", "42703"})
"""SQLSTATEs of a table and of a column that is not there."""

LOCK_NOT_AVAILABLE = "55P03"
QUERY_CANCELED = "57014"

WAITED_TOO_LONG = frozenset({LOCK_NOT_AVAILABLE, QUERY_CANCELED})
"""SQLSTATEs of a statement that met its time limit: another connection would fare no better."""


class Sessions:
    """
    Transactions over the bridge's own connections to one database; threads may share it, and so may forked children.

    There is no lock, which a fork could leave locked: the idle connections are a deque, whose ends are atomic.
    """

    def __init__(self, alias: str, setting: str = 'TASKBRIDGE["database"]') -> None:
        """
        `setting` is where the alias comes from.

        Raises ConfigurationError unless `alias` is a PostgreSQL database of Django's settings.
        """
        if alias not in connections:
            known = ", ".join(sorted(connections))
            raise ConfigurationError(f"{setting} is {alias!r}, which DATABASES lacks; it names: {known}")
        vendor = connections[alias].vendor
        if vendor != "postgresql":
            raise ConfigurationError(
                f"{setting} is {alias!r}, which is {vendor}: flags and pending messages need PostgreSQL"
            )
        self.alias = alias
        self._pid = os.getpid()
        self._idle: deque[tuple[str, Any]] = deque()
        self._inherited: list[deque[tuple[str, Any]]] = []

    @contextmanager
    def transaction(self, limit: float, then: str = "") -> Iterator[Any]:
        """
        Yield a DB-API cursor inside a transaction in which no statement takes longer than `limit` seconds.

        `then` holds statements, without parameters, that are sent along with the beginning; the cursor has the result
        of the last one.
        Commits at the end, rolls back on an exception. Raises StoreUnavailable for whatever the database refuses or
        cannot be asked; after that the transaction may have been committed only if it failed in the commit itself.
        """
        driver = connections[self.alias].Database
        try:
            name, connection, cursor = self._begin(driver, limit, then)
        except driver.Error as error:
            raise self._unavailable(error) from error
        try:
            yield cursor
            cursor.execute("COMMIT")
        except driver.Error as error:
            self._discard(connection)
            raise self._unavailable(error) from error
        except BaseException:
            # Whatever was going on, a fresh connection is cheaper than finding out in which state this one is.
            self._discard(connection)
            raise
        self._release(name, connection)

    def close(self) -> None:
        """Close the idle connections of this process."""
        self._forget_inherited()
        with suppress(IndexError):
            while True:
                self._discard(self._idle.pop()[1])

    def _begin(self, driver: Any, limit: float, then: str) -> tuple[str, Any, Any]:
        # Whatever the database's default is: what is read after a lock was waited for must be fresh.
        begin = f"BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL statement_timeout = {round(limit * 1000)}; {then}"
        self._forget_inherited()
        name = str(connections.settings[self.alias]["NAME"])
        with suppress(IndexError):
            while True:
                known, connection = self._idle.pop()
                # Tests rename the database under a running process.
                if known == name:
                    # The server may have closed it since; nothing is lost by finding out now.
                    try:
                        return name, connection, _execute(driver, connection, begin)
                    except (driver.OperationalError, driver.InterfaceError) as error:
                        if state_of(error) in WAITED_TOO_LONG:
                            self._discard(connection)
                            raise
                self._discard(connection)
        connection = self._connect(driver)
        try:
            return name, connection, _execute(driver, connection, begin)
        except driver.Error:
            self._discard(connection)
            raise

    def _connect(self, driver: Any) -> Any:
        wrapper = connections.create_connection(self.alias)
        parameters = wrapper.get_connection_params()
        for django_only in ("cursor_factory", "context"):
            parameters.pop(django_only, None)
        parameters["connect_timeout"] = min(int(parameters.get("connect_timeout") or CONNECT_TIMEOUT), CONNECT_TIMEOUT)
        parameters.setdefault("tcp_user_timeout", round(SOCKET_TIMEOUT * 1000))
        parameters.setdefault("application_name", "taskbridge")
        connection = driver.connect(**parameters)
        connection.autocommit = True
        role = wrapper.settings_dict["OPTIONS"].get("assume_role")
        if role:
            with connection.cursor() as cursor:
                cursor.execute("SELECT set_config('role', %s, false)", (role,))
        return connection

    def _release(self, name: str, connection: Any) -> None:
        # A test database cannot be dropped while somebody is connected; by this host one knows Django's test runner.
        if len(self._idle) >= IDLE_CONNECTIONS or "testserver" in settings.ALLOWED_HOSTS:
            self._discard(connection)
        else:
            self._idle.append((name, connection))

    def _discard(self, connection: Any) -> None:
        with suppress(connections[self.alias].Database.Error):
            connection.close()

    def _forget_inherited(self) -> None:
        if self._pid != os.getpid():
            # Kept, not closed: closing a parent's connection would say goodbye on the parent's socket.
            self._inherited.append(self._idle)
            self._idle = deque()
            self._pid = os.getpid()

    def _unavailable(self, error: Exception) -> StoreUnavailable:
        state = state_of(error)
        if state in NOT_MIGRATED:
            return StoreUnavailable(
                f"database {self.alias!r} lacks the bridge's tables, or has those of an earlier release: "
                f"run `manage.py migrate taskbridge --database={self.alias}`"
            )
        if state == LOCK_NOT_AVAILABLE:
            return StoreUnavailable(f"database {self.alias!r}: another transition is going on; repeat in a moment")
        reason = " ".join(str(error).split()) or type(error).__name__
        return StoreUnavailable(f"database {self.alias!r} (PostgreSQL) cannot be used: {reason}")


def state_of(error: BaseException | None) -> str:
    """Return the SQLSTATE of a driver's error, or an empty string when the server said none."""
    return getattr(error, "sqlstate", None) or getattr(error, "pgcode", None) or ""


def _execute(driver: Any, connection: Any, statements: str) -> Any:
    """Return a cursor that has the result of the last statement."""
    cursor = connection.cursor()
    cursor.execute(statements)
    # psycopg keeps the result of each statement, psycopg2 only that of the last.
    while driver.__name__ == "psycopg" and cursor.nextset():
        continue
    return cursor
