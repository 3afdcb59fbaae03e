"""What a claim takes of the tables, and what it leaves there when its relay dies."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from taskbridge.contrib.django import claims, fences
from taskbridge.contrib.django.claims import SHARDS_PER_CLAIM, DjangoRelayStore
from taskbridge.contrib.django.store import DjangoStore, shard
from taskbridge.cutover import Flag, Stage
from taskbridge.ports import PendingMessage, Road
from taskbridge.record import Message
from taskbridge.relay import Table
from tests.project.harness import wait_for

pytestmark = pytest.mark.services

LOCKED = f"locktype = 'advisory' AND classid IN ({claims.SHARD_LOCKS['delayed']}, {claims.SHARD_LOCKS['outbox']})"


class World:
    def __init__(self, alias: str) -> None:
        self.store = DjangoStore(alias)
        self.tables = DjangoRelayStore(self.store.sessions)

    def put(
        self, table: Table, task_id: str, key: str = "k", road: Road = "any", attempts: int = 0, body: bytes = b"[]"
    ) -> None:
        message = Message("o.place", task_id, body, "application/json", "utf-8", b"{}", b"{}")
        due = datetime.now(UTC) - timedelta(seconds=1)
        pending = PendingMessage("orders", key, message, due, road=road, attempts=attempts)
        (self.store.outbox if table == "outbox" else self.store.delay)(pending)

    def due(self, table: Table, limit: int = 100) -> list[str]:
        with self.tables.claim(table, limit) as claim:
            return [row.pending.message.task_id for row in claim.rows]

    def states(self, table: Table) -> dict[str, tuple[str, int]]:
        return {row[0]: row[1:] for row in self.ask(f"SELECT task_id, road, attempts FROM taskbridge_{table}")}  # noqa: S608

    def notes(self) -> list[tuple[Any, ...]]:
        return self.ask('SELECT "table", road, ids FROM taskbridge_sending ORDER BY id')

    def ask(self, statement: str) -> list[tuple[Any, ...]]:
        with self.store.sessions.transaction(5.0) as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall())

    def die_while_sending(self, table: Table, **sides: list[str]) -> None:
        """Begin to send rows, by side, and die of it."""
        with suppress(MemoryError), self.tables.claim(table, 100) as claim:
            ids = {row.pending.message.task_id: row.id for row in claim.rows}
            claim.begin({side: [ids[one] for one in names] for side, names in sides.items()})  # type: ignore[misc]
            raise MemoryError
        # The server needs a moment to see that nobody is there any more.
        wait_for(lambda: not self.ask(f"SELECT FROM pg_locks WHERE {LOCKED}"), "an end of the dead relay's locks")


@pytest.fixture
def world(alias: str) -> Iterator[World]:
    one = World(alias)
    yield one
    one.store.sessions.close()


def test_held_rows_stay_and_so_does_what_stands_behind_them(world: World) -> None:
    world.put("outbox", "before")
    world.put("outbox", "held", road="held")
    world.put("outbox", "behind")
    world.put("outbox", "behind-for-kafka", road="kafka", attempts=1)
    world.put("outbox", "another", key="other")

    assert world.due("outbox") == ["before", "another"]

    world.ask("UPDATE taskbridge_outbox SET road = 'any' WHERE road = 'held' RETURNING id")
    assert world.due("outbox") == ["before", "held", "behind", "behind-for-kafka", "another"]


def test_nothing_but_held_rows_is_nothing_to_wait_for(world: World) -> None:
    world.put("outbox", "held", road="held")
    assert world.tables.next_due() is None
    world.put("outbox", "any")
    assert world.tables.next_due() == 0


def test_what_a_relay_was_sending_when_it_died_is_marked_and_keeps_its_side(world: World) -> None:
    for name in ("kafka", "celery", "untried"):
        world.put("outbox", name, key=name)
    world.put("outbox", "dispatched", key="dispatched", road="kafka", attempts=1)

    world.die_while_sending("outbox", kafka=["kafka", "dispatched"], celery=["celery"])

    assert [note[:2] for note in world.notes()] == [("outbox", "kafka"), ("outbox", "celery")]
    assert set(world.due("outbox")) == {"kafka", "celery", "untried", "dispatched"}
    assert world.notes() == []
    assert world.states("outbox") == {
        "kafka": ("kafka-again", 1),
        "celery": ("celery-again", 1),
        "untried": ("any", 0),
        "dispatched": ("kafka", 2),
    }
    # Once more: it is counted, and goes to no other side.
    world.die_while_sending("outbox", kafka=["kafka"])
    world.due("outbox")
    assert world.states("outbox")["kafka"] == ("kafka-again", 2)


def test_each_heir_marks_what_it_has_itself(world: World) -> None:
    keys = distinct_shards(2)
    for key in keys:
        world.put("delayed", key, key=key)
    world.die_while_sending("delayed", kafka=keys)

    with world.store.sessions.transaction(5.0) as cursor:
        # Another relay has the first key's shard.
        cursor.execute(
            "SELECT pg_advisory_xact_lock(%s, %s)", (claims.SHARD_LOCKS["delayed"], shard("orders", keys[0]))
        )
        assert world.due("delayed") == [keys[1]]
    assert world.states("delayed") == {keys[0]: ("any", 0), keys[1]: ("kafka-again", 1)}
    assert len(world.notes()) == 1

    world.due("delayed")
    assert world.states("delayed") == dict.fromkeys(keys, ("kafka-again", 1))
    assert world.notes() == []


def test_a_relay_that_lives_is_not_taken_for_a_dead_one(world: World) -> None:
    keys = distinct_shards(2)
    for key in keys:
        world.put("delayed", key, key=key)

    with world.tables.claim("delayed", 1) as claim:
        (row,) = claim.rows
        claim.begin({"kafka": [row.id]})
        assert world.due("delayed") == [key for key in keys if key != row.pending.key]
        assert len(world.notes()) == 1
        claim.finish([row.id], {})

    assert world.notes() == []
    assert len(world.states("delayed")) == 1


def test_an_end_that_nobody_knows_is_marked_at_once(world: World) -> None:
    for name in ("done", "doubtful", "left"):
        world.put("delayed", name, key=name)

    with world.tables.claim("delayed", 10) as claim:
        ids = {row.pending.message.task_id: row.id for row in claim.rows}
        claim.begin({"kafka": list(ids.values())})
        claim.finish([ids["done"]], {"kafka": [ids["doubtful"]]})

    assert world.states("delayed") == {"doubtful": ("kafka-again", 1), "left": ("any", 0)}
    assert world.notes() == []


def test_a_claim_holds_no_more_bodies_than_fit_into_memory(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "MOST_BYTES", 1_000)
    for number in range(5):
        world.put("delayed", f"{number}", body=b"x" * 600)

    # The one that fills it is still in, so that a message larger than the limit is sent too.
    assert world.due("delayed") == ["0", "1"]


def test_who_is_alone_takes_all_and_who_meets_another_leaves_him_a_part(world: World) -> None:
    keys = distinct_shards(40)
    for key in keys:
        world.put("delayed", key, key=key)
    assert len(world.due("delayed")) == 40

    other = DjangoRelayStore(world.store.sessions)
    with world.tables.claim("delayed", 100) as claim:
        assert len(claim.rows) == 40
        with other.claim("delayed", 100) as nothing:
            assert (list(nothing.rows), nothing.busy) == ([], True)
    with other.claim("delayed", 100) as part:
        assert len(part.rows) == SHARDS_PER_CLAIM
        with world.tables.claim("delayed", 100) as rest:
            assert len(rest.rows) == 40 - SHARDS_PER_CLAIM


def test_flags_of_ordered_services_come_along_and_stay_as_they_are(world: World) -> None:
    world.put("delayed", "a")
    with world.tables.claim("delayed", 10) as claim:
        assert claim.flags == {}

    tables = DjangoRelayStore(world.store.sessions, ordered=["orders", "billing"])
    with tables.claim("delayed", 10) as claim:
        assert claim.flags == {"orders": Flag("orders", Stage.OFF)}
        assert world.ask(f"SELECT FROM pg_locks WHERE locktype = 'advisory' AND classid = {fences.LOCK}")


def test_flags_may_stand_in_another_database_than_the_rows(world: World, alias: str) -> None:
    world.put("delayed", "a")
    elsewhere = DjangoStore(alias)
    tables = DjangoRelayStore(world.store.sessions, ordered=["orders"], flags=elsewhere.sessions)
    with tables.claim("delayed", 10) as claim:
        assert claim.flags == {"orders": Flag("orders", Stage.OFF)}
        claim.begin({"kafka": [row.id for row in claim.rows]})
        claim.finish([row.id for row in claim.rows], {})
    assert world.states("delayed") == {}
    elsewhere.sessions.close()


def distinct_shards(number: int) -> list[str]:
    """Return keys of which no two share a shard."""
    found: dict[int, str] = {}
    for candidate in range(10_000):
        found.setdefault(shard("orders", f"k{candidate}"), f"k{candidate}")
        if len(found) == number:
            return list(found.values())
    raise AssertionError(f"there are no {number} shards")
