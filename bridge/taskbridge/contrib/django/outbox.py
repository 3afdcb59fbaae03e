"""
Rows in the transactions of those who dispatch: rolled back means never sent.

Everything else that the bridge keeps goes over its own connections; these rows alone go over Django's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db import connections, transaction

from taskbridge.contrib.django.session import NOT_MIGRATED, state_of
from taskbridge.contrib.django.store import DjangoStore, Table
from taskbridge.exceptions import ConfigurationError
from taskbridge.ports import PendingMessage


class TransactionalOutbox:
    """A CallersOutbox for the given Django databases, each with its store."""

    def __init__(self, stores: dict[str, DjangoStore]) -> None:
        self._stores = stores

    def add(self, alias: str, table: Table, pending: PendingMessage, kept: Callable[[], None]) -> None:
        """
        Write a row in the transaction that this thread is in on `alias`; `kept` is called when that has committed.

        Outside of a transaction it is committed at once. Errors of Django's connection pass through, such as the one
        for a transaction that is broken already. Raises ConfigurationError when the table is absent or full,
        StoreUnavailable when it cannot be told how full it is.
        """
        store = self._stores[alias]
        # Over the bridge's own connection: it must not hold a snapshot, and its error must not break the transaction.
        store.check_room(table)
        try:
            with connections[alias].cursor() as cursor:
                store.insert(cursor, table, pending)
        except Exception as error:
            if _state(error) not in NOT_MIGRATED:
                raise
            raise ConfigurationError(
                f"database {alias!r} lacks the bridge's tables, or has those of an earlier release: "
                f"run `manage.py migrate taskbridge --database={alias}`"
            ) from error
        # Robust: the row is committed then, so no error in counting it is the caller's.
        transaction.on_commit(kept, using=alias, robust=True)


def _state(error: BaseException) -> str:
    cause: Any = error.__cause__
    return state_of(cause)
