"""Flags and pending messages in a real PostgreSQL."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest
from django.conf import settings
from django.db import connections, transaction

from taskbridge.contrib.django.store import FIRST_FLAG_LIMIT, FLAG_LIMIT, DjangoStore, shard
from taskbridge.cutover import Flag, Stage
from taskbridge.exceptions import ConfigurationError, StoreUnavailable
from taskbridge.ports import PendingMessage
from taskbridge.record import Message

pytestmark = pytest.mark.services

MESSAGE = Message("t.one", "id-1", b"\x00\xff[[], {}]", "application/json", "binary", b'{"a": "\\u0000"}', b"{}")
PENDING = PendingMessage("orders", "key-1", MESSAGE, datetime(2030, 1, 2, tzinfo=UTC), 3, "web:1:ab", 7)

SELECT = {
    "delayed": "SELECT * FROM taskbridge_delayed ORDER BY id",
    "outbox": "SELECT * FROM taskbridge_outbox ORDER BY id",
    "service_flag": "SELECT * FROM taskbridge_service_flag",
}


@pytest.fixture
def store(alias: str) -> Iterator[DjangoStore]:
    store = DjangoStore(alias)
    yield store
    store.sessions.close()


def execute(alias: str, statement: str, *parameters: object) -> list[dict[str, Any]]:
    with connections[alias].cursor() as cursor:
        cursor.execute(statement, parameters)
        if cursor.description is None:
            return []
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def put_flag(alias: str, service: str, stage: str, version: int, basis_points: int = 0) -> None:
    execute(
        alias,
        "INSERT INTO taskbridge_service_flag VALUES (%s, %s, %s, 1, %s, now())",
        service,
        stage,
        basis_points,
        version,
    )


def count(alias: str, table: str) -> int:
    return len(execute(alias, SELECT[table]))


def sessions_of(alias: str) -> int:
    name = connections[alias].settings_dict["NAME"]
    return len(
        execute(
            alias,
            "SELECT pid FROM pg_stat_activity WHERE datname = %s AND application_name = 'taskbridge'",
            name,
        )
    )


def test_only_flags_above_a_version_are_read(store: DjangoStore, alias: str) -> None:
    assert store.flags_since(-1) == []
    put_flag(alias, "orders", "mirror", 4)
    put_flag(alias, "fraud", "live", 5, 1_000)

    orders = Flag("orders", Stage.MIRROR, 0, 1, 4)
    fraud = Flag("fraud", Stage.LIVE, 1_000, 1, 5)
    assert store.flags_since(-1) == [orders, fraud]
    assert store.flags_since(4) == [fraud]
    assert store.flags_since(5) == []


def test_a_stage_of_a_later_version_concerns_its_service_alone(
    store: DjangoStore, alias: str, caplog: pytest.LogCaptureFixture
) -> None:
    put_flag(alias, "orders", "mirror", 1)
    put_flag(alias, "fraud", "teleported", 2)

    for _ in range(2):
        assert [flag.service for flag in store.flags_since(-1)] == ["orders"]
    assert [record.message for record in caplog.records] == [
        "service 'fraud' is in stage 'teleported', which this version of taskbridge does not know: upgrade it"
    ]
    with pytest.raises(ConfigurationError, match="'fraud' is in stage 'teleported'"):
        store.flag_states()


def test_a_message_is_kept_byte_for_byte(store: DjangoStore, alias: str) -> None:
    store.delay(PENDING)
    store.outbox(PENDING)

    for table in ("delayed", "outbox"):
        (row,) = execute(alias, SELECT[table])
        assert row.pop("created_at") is not None
        assert {name: bytes(row.pop(name)) for name in ("body", "headers", "properties")} == {
            "body": MESSAGE.body,
            "headers": MESSAGE.headers,
            "properties": MESSAGE.properties,
        }
        assert row == {
            "id": 1,
            "service": "orders",
            "key": "key-1",
            "shard": shard("orders", "key-1"),
            "task": "t.one",
            "task_id": "id-1",
            "content_type": "application/json",
            "content_encoding": "binary",
            "epoch": 3,
            "producer": "web:1:ab",
            "seq": 7,
            "attempts": 0,
        } | ({"due": PENDING.due, "road": "any"} if table == "delayed" else {"road": "kafka"})
    assert store.pending_counts() == {"delayed": {"orders": 1}, "outbox": {"orders": 1}}


def test_the_callers_transaction_takes_nothing_back(store: DjangoStore, alias: str) -> None:
    class Failure(Exception):
        pass

    def delay_and_fail() -> None:
        with transaction.atomic(using=alias):
            store.delay(PENDING)
            raise Failure

    with pytest.raises(Failure):
        delay_and_fail()

    assert count(alias, "delayed") == 1


def test_the_callers_snapshot_and_broken_transaction_do_not_matter(store: DjangoStore, alias: str) -> None:
    connection = connections[alias]
    with transaction.atomic(using=alias):
        execute(alias, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        count(alias, "service_flag")
        other = connections.create_connection(alias)
        other.inc_thread_sharing()
        with other.cursor() as cursor:
            cursor.execute("INSERT INTO taskbridge_service_flag VALUES ('orders', 'mirror', 0, 1, 1, now())")
        other.close()
        assert count(alias, "service_flag") == 0
        assert len(store.flags_since(-1)) == 1
        with pytest.raises(connection.Database.Error), connection.cursor() as cursor:
            cursor.cursor.execute("SELECT 1/0")
        store.delay(PENDING)
        transaction.set_rollback(True, using=alias)
    assert count(alias, "delayed") == 1


def test_it_works_below_a_running_event_loop(store: DjangoStore) -> None:
    async def dispatch() -> list[Flag]:
        store.delay(PENDING)
        return list(store.flags_since(-1))

    assert asyncio.run(dispatch()) == []
    assert store.pending_counts()["delayed"] == {"orders": 1}


def test_connections_are_used_again_and_few_are_kept(store: DjangoStore, alias: str) -> None:
    barrier = threading.Barrier(8)

    def dispatch(_: int) -> None:
        barrier.wait(60)
        for _ in range(10):
            store.delay(PENDING)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(dispatch, range(8)))

    assert count(alias, "delayed") == 80
    wait_for(lambda: 1 <= sessions_of(alias) <= 2)


def test_a_connection_that_the_server_closed_is_replaced(store: DjangoStore, alias: str) -> None:
    store.delay(PENDING)
    assert sessions_of(alias) == 1
    execute(alias, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'taskbridge'")

    store.delay(PENDING)
    assert store.flags_since(-1) == []
    assert count(alias, "delayed") == 2


def test_a_forked_child_opens_connections_of_its_own(store: DjangoStore, alias: str) -> None:
    store.delay(PENDING)
    store.flags_since(-1)
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            store.flags_since(-1)
            store.delay(PENDING)
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0

    # The parent's connection has survived the child's end.
    store.delay(PENDING)
    assert count(alias, "delayed") == 3


def test_a_test_database_can_be_dropped_since_no_connection_stays_open(
    store: DjangoStore, alias: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "ALLOWED_HOSTS", ["testserver"])
    store.delay(PENDING)
    store.flags_since(-1)

    # The server's end of a closed connection takes a moment to go.
    wait_for(lambda: sessions_of(alias) == 0)


def test_the_database_may_be_renamed_under_a_running_process(store: DjangoStore, alias: str) -> None:
    store.delay(PENDING)
    connections.settings[alias]["NAME"] = "no_such_database"

    with pytest.raises(StoreUnavailable, match="no_such_database"):
        store.delay(PENDING)


def test_a_table_that_hangs_costs_a_dispatch_a_fraction_of_a_second(store: DjangoStore, alias: str) -> None:
    store.flags_since(-1)
    with transaction.atomic(using=alias):
        execute(alias, "LOCK TABLE taskbridge_service_flag IN ACCESS EXCLUSIVE MODE")
        began = time.monotonic()
        with pytest.raises(StoreUnavailable):
            store.flags_since(-1)
        assert time.monotonic() - began < FLAG_LIMIT + 30
    wait_for(lambda: answers(store))


def test_a_server_that_says_nothing_is_given_up_and_not_asked_by_two(store: DjangoStore, alias: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        connections.settings[alias] |= {"HOST": "127.0.0.1", "PORT": silent.getsockname()[1]}
        began = time.monotonic()
        with pytest.raises(StoreUnavailable, match="did not answer within 2 s"):
            store.flags_since(-1)
        assert time.monotonic() - began < FIRST_FLAG_LIMIT + 30
        began = time.monotonic()
        with pytest.raises(StoreUnavailable):
            store.flags_since(-1)
        assert time.monotonic() - began < FLAG_LIMIT + 30


def test_a_server_that_is_not_there_is_named_in_one_sentence(store: DjangoStore, alias: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    connections.settings[alias] |= {"HOST": "127.0.0.1", "PORT": port}

    with pytest.raises(StoreUnavailable, match=f"database '{alias}' .*{port}.*refused") as failed:
        store.delay(PENDING)
    assert "\n" not in str(failed.value)


def test_missing_tables_are_named_with_the_remedy_and_never_break_a_dispatch(store: DjangoStore, alias: str) -> None:
    execute(alias, "ALTER TABLE taskbridge_service_flag RENAME TO flags_away")
    execute(alias, "ALTER TABLE taskbridge_delayed RENAME TO delayed_away")
    try:
        for question in (lambda: store.flags_since(-1), lambda: store.delay(PENDING)):
            with pytest.raises(StoreUnavailable, match=f"manage.py migrate taskbridge --database={alias}"):
                question()
    finally:
        execute(alias, "ALTER TABLE flags_away RENAME TO taskbridge_service_flag")
        execute(alias, "ALTER TABLE delayed_away RENAME TO taskbridge_delayed")


def test_a_full_table_refuses_with_the_remedy_and_has_room_again(alias: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taskbridge.contrib.django.store.CAPACITY_INTERVAL", 0.0)
    store = DjangoStore(alias, max_pending=3)
    for _ in range(3):
        store.delay(PENDING)

    with pytest.raises(ConfigurationError, match=r"taskbridge_delayed is full \(3 rows\): see that `taskbridge relay`"):
        store.delay(PENDING)
    store.outbox(PENDING)

    # The ids still span more than the limit; the rows do not.
    execute(alias, "DELETE FROM taskbridge_delayed WHERE id = 2")
    store.delay(PENDING)
    assert count(alias, "delayed") == 3
    store.sessions.close()


def test_a_key_that_postgresql_cannot_store_is_refused_by_name(store: DjangoStore) -> None:
    with pytest.raises(ConfigurationError, match=r"t\.one\[id-1\] cannot be put aside.*NUL"):
        store.delay(PendingMessage("orders", "a\0b", MESSAGE, PENDING.due))


def test_a_database_that_will_not_do_is_refused_at_the_start(alias: str) -> None:
    with pytest.raises(ConfigurationError, match=f"is 'nowhere', which DATABASES lacks; it names: .*{alias}"):
        DjangoStore("nowhere")
    connections.settings["lite"] = connections.configure_settings(
        {"default": {}, "lite": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
    )["lite"]
    try:
        with pytest.raises(ConfigurationError, match=r"which is sqlite: .* need PostgreSQL"):
            DjangoStore("lite")
    finally:
        del connections.settings["lite"]


def answers(store: DjangoStore) -> bool:
    try:
        store.flags_since(-1)
    except StoreUnavailable:
        return False
    return True


def wait_for(condition: Callable[[], bool], within: float = 90.0) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.02)
