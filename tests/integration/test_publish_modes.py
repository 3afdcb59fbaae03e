"""Rows in the caller's own transaction, and requests that are a barrier, on real servers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from celery import Celery
from django.db import connections, transaction
from django.db.transaction import TransactionManagementError
from django.db.utils import DataError
from django.http import HttpResponse
from kombu.exceptions import OperationalError

from taskbridge.adapters.celery.hook import install_hook
from taskbridge.adapters.kafka.admin import KafkaAdmin
from taskbridge.adapters.kafka.producer import BestEffortProducer, ConfirmedProducer
from taskbridge.contrib.django.middleware import BarrierMiddleware
from taskbridge.contrib.django.outbox import TransactionalOutbox
from taskbridge.contrib.django.store import DjangoStore
from taskbridge.cutover import FlagCache, Stage
from taskbridge.dispatch import Dispatcher
from taskbridge.observation import DispatchRow
from taskbridge.settings import Settings
from taskbridge.testing import FakeFlags, RecordingObserver

pytestmark = pytest.mark.services


class Road:
    """An app with two live services, one by barrier and one by outbox."""

    def __init__(self, settings: Settings, alias: str) -> None:
        self.settings, self.alias = settings, alias
        flags = FakeFlags()
        for service in settings.services:
            flags.set(service, Stage.LIVE, 10_000)
        self.confirmed, self.best_effort = ConfirmedProducer(settings), BestEffortProducer(settings)
        self.store, self.observer = DjangoStore(alias, settings.max_pending), RecordingObserver()
        self.dispatcher = Dispatcher(
            settings,
            FlagCache(flags, dict.fromkeys(settings.services, Stage.OFF), time.monotonic),
            self.confirmed,
            self.best_effort,
            self.store,
            self.observer,
            callers=TransactionalOutbox({alias: self.store}),
        )
        self.app = Celery(settings.prefix, broker="memory://", set_as_current=False)
        install_hook(self.app, lambda _: self.dispatcher)

    def send(self, service: str, *args: Any, **options: Any) -> str:
        return str(self.app.send_task(f"{service}.place", args, **options).id)

    def rows(self, table: str) -> list[dict[str, Any]]:
        with self.store.sessions.transaction(5) as cursor:
            cursor.execute(f"SELECT * FROM taskbridge_{table} ORDER BY id")  # noqa: S608
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def outbox(self) -> list[str]:
        return [row["task_id"] for row in self.rows("outbox")]

    @property
    def observed(self) -> list[tuple[str, str, int]]:
        return [(row.id, row.route, row.seq) for row in self.observer.rows if isinstance(row, DispatchRow)]

    def close(self) -> None:
        self.confirmed.close()
        self.best_effort.close()
        self.app.close()
        self.store.sessions.close()


@pytest.fixture
def settings(kafka_bootstrap: str, alias: str, topic_prefix: str) -> Settings:
    services = {
        "quick": {"tasks": ["quick.*"], "publish": "barrier", "partitions": 3},
        "safe": {"tasks": ["safe.*"], "publish": "outbox"},
    }
    settings = Settings.from_mapping(
        {"prefix": topic_prefix, "services": services, "database": alias}, {"KAFKA_BOOTSTRAP_SERVERS": kafka_bootstrap}
    )
    KafkaAdmin(settings).ensure_topics(["quick", "safe"])
    return settings


@pytest.fixture
def road(settings: Settings, alias: str) -> Iterator[Road]:
    road = Road(settings, alias)
    yield road
    road.close()


def test_rolled_back_means_never_sent_and_never_counted(road: Road, alias: str) -> None:
    def undone() -> None:
        with transaction.atomic(using=alias):
            road.send("safe")
            road.send("safe", countdown=60)
            raise KeyError("undo")

    with pytest.raises(KeyError, match="undo"):
        undone()
    assert (road.rows("outbox"), road.rows("delayed"), road.observed) == ([], [], [])
    assert road.dispatcher.counters.snapshot() == {}
    with transaction.atomic(using=alias):
        kept = road.send("safe", "o-1")
        with pytest.raises(KeyError, match="undo"):
            undone()
        # Nobody else sees it yet.
        assert road.outbox() == []
    [row] = road.rows("outbox")
    assert (row["task_id"], row["road"], row["attempts"], row["producer"]) == (
        kept,
        "kafka",
        0,
        road.dispatcher.numbering.source,
    )
    # The numbers have no gap that would tell of a dispatch that was lost.
    assert road.observed == [(kept, "delayed", 1)]
    assert road.dispatcher.counters.snapshot() == {"safe": {"outbox": 1}}


def test_without_a_transaction_the_row_is_there_at_once(road: Road) -> None:
    sent = [road.send("safe"), road.send("safe")]
    assert road.outbox() == sent
    assert [number for _, _, number in road.observed] == [1, 2]


def test_an_error_in_counting_is_not_the_callers(road: Road, alias: str, monkeypatch: Any, caplog: Any) -> None:
    def note(*_: Any, **__: Any) -> None:
        raise RuntimeError("cannot count")

    monkeypatch.setattr(road.dispatcher._traces, "note", note)
    with transaction.atomic(using=alias):
        sent = road.send("safe")
    assert road.outbox() == [sent]
    assert "cannot count" in caplog.text


def test_a_broken_transaction_is_djangos_to_complain_of(road: Road, alias: str) -> None:
    def broken() -> None:
        with transaction.atomic(using=alias):
            with pytest.raises(DataError), connections[alias].cursor() as cursor:
                cursor.execute("SELECT 1 / 0")
            connections[alias].needs_rollback = True
            road.send("safe")

    with pytest.raises(TransactionManagementError):
        broken()
    assert (road.outbox(), road.observed) == ([], [])


def test_a_full_table_raises_at_dispatch(settings: Settings, alias: str) -> None:
    road = Road(replace(settings, max_pending=2), alias)
    try:
        road.send("safe")
        road.send("safe", countdown=60)
        road.send("safe")
        road.store._room_until.clear()
        with pytest.raises(OperationalError, match=r"the table taskbridge_outbox is full \(2 rows\)"):
            road.send("safe")
        road.send("safe", countdown=60)
        road.store._room_until.clear()
        with pytest.raises(OperationalError, match=r"the table taskbridge_delayed is full \(2 rows\)"):
            road.send("safe", countdown=60)
        with transaction.atomic(using=alias):
            road.store._room_until.clear()
            with pytest.raises(OperationalError, match="is full"):
                road.send("safe")
            # The caller's transaction is as good as before.
            with connections[alias].cursor() as cursor:
                cursor.execute("SELECT 1")
    finally:
        road.close()


def test_a_database_without_the_table_says_so(road: Road, alias: str) -> None:
    def dispatch() -> None:
        with transaction.atomic(using=alias):
            road.send("safe")

    road.send("safe")
    with connections[alias].cursor() as cursor:
        cursor.execute("ALTER TABLE taskbridge_outbox RENAME TO taskbridge_hidden")
    try:
        with pytest.raises(OperationalError, match=r"lacks the bridge's tables.*migrate taskbridge --database="):
            dispatch()
    finally:
        with connections[alias].cursor() as cursor:
            cursor.execute("ALTER TABLE taskbridge_hidden RENAME TO taskbridge_outbox")


# Barriers around requests


def test_a_response_leaves_when_all_is_acknowledged(road: Road) -> None:
    seen: list[int] = []

    def view(request: Any) -> HttpResponse:
        for _ in range(20):
            road.send("quick")
        seen.append(len(road.observed))
        return HttpResponse("done")

    assert BarrierMiddleware(view)(None).content == b"done"
    assert (seen, len(road.observed)) == ([0], 20)
    assert road.dispatcher.counters.snapshot() == {"quick": {"barrier": 20, "kafka": 20}}


def test_a_view_that_fails_is_waited_for_too(road: Road) -> None:
    def view(request: Any) -> HttpResponse:
        road.send("quick")
        raise KeyError("view")

    with pytest.raises(KeyError, match="view"):
        BarrierMiddleware(view)(None)
    assert len(road.observed) == 1


def test_async_requests_wait_for_their_own(road: Road) -> None:
    async def view(count: Any) -> HttpResponse:
        for _ in range(count):
            road.send("quick")
            await asyncio.sleep(0)
        return HttpResponse(str(count))

    async def both() -> list[Any]:
        middleware = BarrierMiddleware(view)
        assert asyncio.iscoroutinefunction(middleware) or middleware._is_async
        return await asyncio.gather(middleware(3), middleware(5))

    assert [response.content for response in asyncio.run(both())] == [b"3", b"5"]
    assert len(road.observed) == 8
