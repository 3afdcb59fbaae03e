"""The gate, the fence and its keeper, on a real database."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from taskbridge.contrib.django import fences, keeper
from taskbridge.contrib.django.fences import Gates
from taskbridge.contrib.django.keeper import FenceKeeper
from taskbridge.contrib.django.rules import Request
from taskbridge.contrib.django.store import DjangoStore
from taskbridge.contrib.django.transition import transition
from taskbridge.cutover import Fence, Flag, Stage
from taskbridge.dispatch.ordered import GateBusy
from taskbridge.exceptions import BrokerUnavailable, TransitionRefused
from taskbridge.ports import Assessment, PendingMessage, Road
from taskbridge.record import Message
from taskbridge.settings import ServiceSettings
from taskbridge.testing import settings
from tests.project.harness import wait_for

pytestmark = pytest.mark.services

SETTINGS = settings(ServiceSettings("orders", tasks=("orders.*",), ordered=True), flag_stale_after=0.001)
READY = Assessment("READY", "as it should")


@pytest.fixture
def store(alias: str) -> Iterator[DjangoStore]:
    one = DjangoStore(alias)
    yield one
    one.sessions.close()


@pytest.fixture
def gates(store: DjangoStore) -> Gates:
    return Gates(store, SETTINGS)


def move(store: DjangoStore, stage: Stage, basis_points: int = 0) -> Flag:
    request = Request(service="orders", stage=stage, basis_points=basis_points, who="t", why="a test", override=True)
    return transition(store, SETTINGS, request, READY).after


def live(store: DjangoStore, basis_points: int = 10_000) -> Flag:
    move(store, Stage.MIRROR)
    return move(store, Stage.LIVE, basis_points)


def pending(key: str = "k", road: Road = "any", attempts: int = 0) -> PendingMessage:
    message = Message("orders.place", "id", b"[[],{},{}]", "application/json", "utf-8", b"{}", b"{}")
    return PendingMessage("orders", key, message, datetime.now(UTC), road=road, attempts=attempts)


def roads(store: DjangoStore) -> list[str]:
    with store.sessions.transaction(5.0) as cursor:
        cursor.execute("SELECT road FROM taskbridge_outbox ORDER BY id")
        return [row[0] for row in cursor.fetchall()]


def standing(store: DjangoStore) -> Fence | None:
    return store.flag_states()["orders"].flag.fence


# The gate


def test_the_gate_shows_the_flag_and_what_waits_of_the_key_alone(store: DjangoStore, gates: Gates) -> None:
    with gates.open("orders", "k") as passage:
        assert (passage.flag.stage, passage.waiting) == (Stage.OFF, None)
    after = live(store)
    for key, road in (("k", "any"), ("it's", "held"), ("%s ünd\\", "any")):
        with gates.open("orders", key) as passage:
            assert (passage.flag, passage.waiting) == (after, None)
            passage.keep(pending(key, road))  # type: ignore[arg-type]
        with gates.open("orders", key) as passage:
            assert passage.waiting == road
    with gates.open("orders", "with\0nul") as passage:
        assert passage.waiting is None


def test_what_was_kept_is_gone_when_the_dispatch_fails(store: DjangoStore, gates: Gates) -> None:
    def fail() -> None:
        with gates.open("orders", "k") as passage:
            passage.keep(pending())
            raise LookupError

    with pytest.raises(LookupError):
        fail()
    assert roads(store) == []


def test_a_transition_waits_for_dispatches_under_way_and_later_ones_see_it(store: DjangoStore, gates: Gates) -> None:
    move(store, Stage.MIRROR)
    moved = threading.Event()

    def transit() -> None:
        move(store, Stage.LIVE, 10_000)
        moved.set()

    thread = threading.Thread(target=transit)
    with gates.open("orders", "k") as passage, gates.open("orders", "other"):
        assert passage.flag.stage is Stage.MIRROR
        thread.start()
        wait_for(lambda: waiting_for_the_lock(store), "the transition waits")
        assert not moved.is_set()
    thread.join()
    with gates.open("orders", "k") as passage:
        assert (passage.flag.stage, passage.flag.fence) == (Stage.LIVE, Fence(0, 10_000, frozenset({"celery"})))


def waiting_for_the_lock(store: DjangoStore) -> bool:
    with store.sessions.transaction(5.0) as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE classid = %s AND NOT granted", (fences.LOCK,))
        return bool(cursor.fetchone()[0])


def test_a_gate_that_a_transition_keeps_shut_is_told_from_a_database_that_is_away(store: DjangoStore) -> None:
    impatient = Gates(store, replace(SETTINGS, publish_timeout=-9.9))
    with store.sessions.transaction(5.0) as cursor:
        fences.exclusive(cursor, "orders", SETTINGS)
        with pytest.raises(GateBusy, match="changes its stage"), impatient.open("orders", "k"):
            pytest.fail("the gate was open")


def test_keys_do_not_change_side_before_every_process_can_have_seen_mirror(store: DjangoStore) -> None:
    slow = replace(SETTINGS, flag_stale_after=60.0)
    move(store, Stage.MIRROR)
    request = Request(service="orders", stage=Stage.LIVE, basis_points=10_000, who="t", why="a test", override=True)
    with pytest.raises(TransitionRefused, match=r"has been in mirror for less than 60 s.*repeat in (60|59) s"):
        transition(store, slow, request, READY)
    assert store.flag_states()["orders"].flag.stage is Stage.MIRROR


# The fence


@pytest.mark.parametrize(
    ("before", "after", "fence"),
    [
        ((Stage.MIRROR, 0), (Stage.LIVE, 100), Fence(0, 100, frozenset({"celery"}))),
        ((Stage.LIVE, 100), (Stage.LIVE, 500), Fence(100, 500, frozenset({"celery"}))),
        ((Stage.LIVE, 500), (Stage.LIVE, 100), Fence(100, 500, frozenset({"kafka"}))),
        ((Stage.LIVE, 500), (Stage.OFF, 0), Fence(0, 500, frozenset({"kafka"}))),
        ((Stage.COMPLETE, 0), (Stage.OFF, 0), Fence(0, 10_000, frozenset({"kafka"}))),
        ((Stage.LIVE, 10_000), (Stage.COMPLETE, 0), None),
        ((Stage.MIRROR, 0), (Stage.SHADOW, 500), None),
    ],
)
def test_the_keys_that_change_side_are_fenced(
    before: tuple[Stage, int], after: tuple[Stage, int], fence: Fence | None
) -> None:
    assert fences.after_move(Flag("orders", *before), Flag("orders", *after)) == fence


def test_a_fence_that_stands_grows_and_has_to_be_looked_at_anew() -> None:
    first = Fence(0, 500, frozenset({"celery"}), {0: 7})
    before = Flag("orders", Stage.LIVE, 500, fence=first)
    assert fences.after_move(before, Flag("orders", Stage.OFF)) == Fence(0, 500, frozenset({"celery", "kafka"}))
    assert fences.after_move(before, Flag("orders", Stage.LIVE, 2_500)) == Fence(0, 2_500, frozenset({"celery"}))
    assert fences.after_move(before, replace(before, hold=True)) == first


def test_a_transition_holds_what_waits_except_what_one_side_may_have(store: DjangoStore) -> None:
    live(store)
    for row in (pending(), pending(road="kafka", attempts=1), pending("noted")):
        store.outbox(row)
    with store.sessions.transaction(5.0) as cursor:
        # A relay noted that it was about to send the third to Kafka, and died.
        cursor.execute(
            'INSERT INTO taskbridge_sending ("table", road, shards, ids)'
            " SELECT 'outbox', 'kafka', '{}', '{' || max(id) || '}' FROM taskbridge_outbox"
        )
    move(store, Stage.MIRROR)
    assert roads(store) == ["held", "kafka", "kafka-again"]


# The keeper


class Sides:
    """Celery and Kafka as a test says they are."""

    def __init__(self) -> None:
        self.celery: list[str] = []
        self.looks = 0
        self.end = {0: 10}
        self.left: Mapping[int, int] = {}
        self.asked: list[Mapping[int, int]] = []

    def find(self, service: str, mine: Callable[[str], bool]) -> str:
        self.looks += 1
        return self.celery.pop(0) if self.celery else ""

    def ends(self, service: str) -> Mapping[int, int]:
        return self.end

    def unfinished(self, service: str, ends: Mapping[int, int]) -> Mapping[int, int]:
        self.asked.append(ends)
        return self.left


@pytest.fixture
def sides() -> Sides:
    return Sides()


@pytest.fixture
def watch(store: DjangoStore, sides: Sides) -> FenceKeeper:
    return FenceKeeper(store, SETTINGS, sides, sides)


def test_keys_leave_celery_once_nothing_was_found_twice_in_a_row(
    store: DjangoStore, watch: FenceKeeper, sides: Sides
) -> None:
    live(store)
    store.outbox(pending(road="held"))
    sides.celery = ["1 queued", "", "1 running"]
    assert [(one.service, one.held, one.why) for one in watch.look()] == [("orders", 1, "Celery: 1 queued")]
    assert [one.why for one in watch.look()] == ["Celery: 1 running"]
    assert keeper.standing(store) == {"orders": (Fence(0, 10_000, frozenset({"celery"})), 1)}
    version = store.flag_states()["orders"].flag.version
    assert watch.look() == []
    assert roads(store) == ["any"]
    found = store.flag_states()["orders"].flag
    assert (found.fence, found.epoch) == (Fence(0, 10_000, frozenset()), 2)
    assert found.version > version, "every process must learn of it"
    watch.look()
    assert standing(store) is not None, "dispatches queue behind what is still there"
    with store.sessions.transaction(5.0) as cursor:
        cursor.execute("DELETE FROM taskbridge_outbox")
    watch.look()
    assert standing(store) is None
    with store.sessions.transaction(5.0) as cursor:
        cursor.execute("SELECT action, who FROM taskbridge_transition ORDER BY id DESC LIMIT 2")
        assert cursor.fetchall() == [("lift", "relay"), ("lift", "relay")]


def test_keys_leave_kafka_once_everything_before_its_end_is_finished(
    store: DjangoStore, watch: FenceKeeper, sides: Sides
) -> None:
    live(store)
    watch.look()
    move(store, Stage.OFF)
    store.outbox(pending(road="kafka", attempts=1))
    assert [one.why for one in watch.look()] == ["1 in the outbox"], "it comes before the end"
    with store.sessions.transaction(5.0) as cursor:
        cursor.execute("DELETE FROM taskbridge_outbox")
    assert [one.why for one in watch.look()] == ["Kafka: its ends were read just now"]
    sides.end, sides.left, looks = {0: 99}, {0: 4}, sides.looks
    assert [one.why for one in watch.look()] == ["Kafka: 4 not finished"]
    assert (sides.asked, sides.looks) == ([{0: 10}], looks), "the end of that moment, and Celery is not asked"
    sides.left = {}
    watch.look()
    assert standing(store) is None


def test_a_move_during_a_look_is_not_overwritten(
    store: DjangoStore, sides: Sides, monkeypatch: pytest.MonkeyPatch
) -> None:
    live(store)

    def find(service: str, mine: Callable[[str], bool]) -> str:
        if store.flag_states()["orders"].flag.stage is Stage.LIVE:
            move(store, Stage.OFF)
        return ""

    monkeypatch.setattr(sides, "find", find)
    FenceKeeper(store, SETTINGS, sides, sides).look()
    assert standing(store) == Fence(0, 10_000, frozenset({"celery", "kafka"}))


def test_a_look_goes_on_beside_the_relay_and_what_it_met_is_told_at_the_next(store: DjangoStore, sides: Sides) -> None:
    live(store)
    at_it, go_on = threading.Event(), threading.Event()

    def find(service: str, mine: Callable[[str], bool]) -> str:
        at_it.set()
        assert go_on.wait(60)
        raise BrokerUnavailable("Celery is away")

    sides.find = find  # type: ignore[method-assign]
    watch = FenceKeeper(store, SETTINGS, sides, sides)
    watch.lift()
    assert at_it.wait(60)
    watch.lift()
    go_on.set()
    watch.close()
    with pytest.raises(BrokerUnavailable, match="Celery is away"):
        watch.lift()
    watch.close()
