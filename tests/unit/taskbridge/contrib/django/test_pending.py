"""How many rows wait for the relay."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any, cast

from taskbridge.adapters.monitoring.samples import Pending
from taskbridge.contrib.django.pending import REFRESH, PendingRows
from taskbridge.contrib.django.session import Sessions
from taskbridge.exceptions import StoreUnavailable


class Database:
    """Sessions whose every query has the same answer."""

    def __init__(self) -> None:
        self.rows: list[tuple[Any, ...]] = []
        self.available = True
        self.asked = 0

    @contextmanager
    def transaction(self, limit: float) -> Iterator[Any]:
        assert limit < 10
        self.asked += 1
        if not self.available:
            raise StoreUnavailable("the database is away")
        yield self

    def execute(self, statement: str) -> None:
        assert "taskbridge_delayed" in statement

    def fetchall(self) -> list[tuple[Any, ...]]:
        return self.rows


def test_counts_are_kept_for_a_while_and_what_has_no_row_is_zero() -> None:
    now = [0.0]
    database = Database()
    pending = PendingRows(cast(Sessions, database), ["orders"], lambda: now[0])
    database.rows = [("delayed", "orders", 7, Decimal("-3.5")), ("outbox", "former", 1, Decimal("2.5"))]
    first = pending.read()
    assert set(first) == {
        # Nothing is due before three seconds have passed.
        Pending("delayed", "orders", 7, 0.0),
        Pending("outbox", "orders", 0, 0.0),
        Pending("outbox", "former", 1, 2.5),
    }
    database.rows = [("outbox", "orders", 2, None)]
    assert pending.read() is first
    assert database.asked == 1
    now[0] = REFRESH
    assert set(pending.read()) == {Pending("delayed", "orders", 0, 0.0), Pending("outbox", "orders", 2, 0.0)}


def test_while_the_database_is_away_nothing_is_told_and_it_is_not_pressed() -> None:
    now = [0.0]
    database = Database()
    database.available = False
    pending = PendingRows(cast(Sessions, database), ["orders"], lambda: now[0])
    assert pending.read() == pending.read() == ()
    assert database.asked == 1
    database.available, now[0] = True, REFRESH
    assert len(pending.read()) == 2
