"""Transitions in a real PostgreSQL: flag and audit, together, once, in order."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import pytest
from django.db import connections, transaction
from django.db.utils import Error

from taskbridge.contrib.django.history import transitions
from taskbridge.contrib.django.rules import Request
from taskbridge.contrib.django.store import DjangoStore
from taskbridge.contrib.django.transition import Change, answered, read_standing, transition
from taskbridge.cutover import Fence, Flag, Stage
from taskbridge.exceptions import StoreUnavailable, TransitionOvertaken, TransitionRefused
from taskbridge.ports import Assessment
from taskbridge.settings import Settings

pytestmark = pytest.mark.services

MAPPING = {
    "publish_timeout": 0.5,
    "flag_stale_after": 1e-6,
    "services": {
        "orders": {"tasks": ["shop.orders.*"], "partitions": 3},
        "fraud": {"tasks": ["shop.fraud.*"]},
        "ledger": {"tasks": ["shop.ledger.*"], "ordered": True},
    },
}
TASK = "shop.orders.export"
READY = Assessment("READY", "READY: enough is known", {"agree": 1})


@pytest.fixture
def store(alias: str) -> Iterator[DjangoStore]:
    store = DjangoStore(alias)
    yield store
    store.sessions.close()


@pytest.fixture
def settings() -> Settings:
    return Settings.from_mapping(MAPPING, {"KAFKA_BOOTSTRAP_SERVERS": "localhost:1"})


def audit_of(alias: str) -> list[Any]:
    # Models can be imported once Django is set up, which the alias is there for.
    from taskbridge.contrib.django.models import Transition

    return list(Transition.objects.using(alias).order_by("id"))


def move(
    store: DjangoStore,
    settings: Settings,
    stage: Stage | None = None,
    basis_points: int = 0,
    verdict: Assessment | None = READY,
    **options: Any,
) -> Change:
    given = {"service": "orders", "who": "ada", "stage": stage, "basis_points": basis_points} | options
    return transition(store, settings, Request(**given), verdict)


def test_a_transition_writes_flag_and_audit_together(store: DjangoStore, settings: Settings, alias: str) -> None:
    first = move(store, settings, Stage.MIRROR, why="to compare")
    second = move(store, settings, Stage.LIVE, 100)

    assert first.before == Flag("orders", Stage.OFF)
    assert (first.after.epoch, second.after.epoch) == (1, 2)
    assert second.after == Flag("orders", Stage.LIVE, 100, 2, second.after.version)
    assert second.after.version > first.after.version
    assert list(store.flags_since(-1)) == [second.after]
    state, audit = store.flag_states()["orders"], audit_of(alias)
    assert (state.flag, state.flag.version) == (second.after, audit[1].id)
    assert state.changed_at == audit[1].at
    assert [(item.who, item.why) for item in audit] == [("ada", "to compare"), ("ada", "")]
    assert audit[1].before == audit[0].after
    assert audit[1].after["stage"] == "live"
    assert [item.verdict for item in audit] == [READY.document(), READY.document()]


def test_a_transition_to_where_a_service_is_changes_nothing(store: DjangoStore, settings: Settings, alias: str) -> None:
    move(store, settings, Stage.MIRROR)
    change = move(store, settings, Stage.MIRROR)

    assert not change.happened
    assert change.after.epoch == 1
    assert len(audit_of(alias)) == 1


def test_it_is_committed_whatever_becomes_of_the_callers_transaction(
    store: DjangoStore, settings: Settings, alias: str
) -> None:
    with transaction.atomic(using=alias):
        move(store, settings, Stage.MIRROR)
        transaction.set_rollback(True, using=alias)

    assert [flag.stage for flag in store.flags_since(-1)] == [Stage.MIRROR]


@pytest.mark.parametrize(
    ("service", "stage", "basis_points", "words"),
    [
        ("order", Stage.MIRROR, 0, "no service 'order'; TASKBRIDGE names: fraud, ledger, orders"),
        ("orders", Stage.LIVE, 100, "orders is off and cannot go to live 1% at once: next is mirror"),
        ("orders", Stage.LIVE, 0, "0 basis points do not go with live"),
        ("orders", Stage.LIVE, 10_001, "10001 basis points do not go with live"),
        ("orders", Stage.MIRROR, 5, "5 basis points do not go with mirror"),
    ],
)
def test_refusals_change_nothing(
    store: DjangoStore, settings: Settings, alias: str, service: str, stage: Stage, basis_points: int, words: str
) -> None:
    with pytest.raises(TransitionRefused, match=words):
        move(store, settings, stage, basis_points, service=service)

    assert audit_of(alias) == []
    assert store.flags_since(-1) == []


def test_an_epoch_that_has_passed_is_refused(store: DjangoStore, settings: Settings) -> None:
    move(store, settings, Stage.MIRROR)

    with pytest.raises(
        TransitionOvertaken, match="orders was moved meanwhile: it is mirror in epoch 1, not in epoch 0"
    ):
        move(store, settings, Stage.OFF, expected_epoch=0)
    assert move(store, settings, Stage.OFF, expected_epoch=1).after.epoch == 2


def test_of_many_at_once_one_wins_and_no_reader_misses_a_version(
    store: DjangoStore, settings: Settings, alias: str
) -> None:
    def attempt(service: str, number: int) -> int:
        wanted = Stage.MIRROR if number % 2 else Stage.OFF
        try:
            epoch = read_standing(store, settings, service).flag.epoch
            return int(move(store, settings, wanted, service=service, who=f"{number}", expected_epoch=epoch).happened)
        except TransitionOvertaken:
            return 0

    seen: dict[str, Flag] = {}
    last = -1
    with ThreadPoolExecutor(6) as pool:
        attempts = [pool.submit(attempt, service, number) for number in range(60) for service in ("orders", "fraud")]
        while not all(each.done() for each in attempts):
            for flag in store.flags_since(last):
                assert flag.version > last
                last = flag.version
                assert flag.service not in seen or flag.epoch > seen[flag.service].epoch
                seen[flag.service] = flag
        won = sum(each.result() for each in attempts)
    seen |= {flag.service: flag for flag in store.flags_since(last)}

    audit = audit_of(alias)
    assert len(audit) == won > 2
    assert seen == {flag.service: flag for flag in store.flags_since(-1)}
    for service in ("orders", "fraud"):
        rows = [row for row in audit if row.service == service]
        assert [row.after["epoch"] for row in rows] == list(range(1, len(rows) + 1))
        assert all(later.before == earlier.after for earlier, later in pairwise(rows))
        assert seen[service].epoch == len(rows)


def test_a_transition_that_does_not_come_to_its_turn_says_so(
    store: DjangoStore, settings: Settings, alias: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taskbridge.contrib.django.transition.LIMIT", 0.2)
    with transaction.atomic(using=alias), connections[alias].cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s, 0)", [0x7461736B])
        with pytest.raises(StoreUnavailable, match="another transition is going on; repeat in a moment"):
            move(store, settings, Stage.MIRROR)


def test_forward_needs_a_verdict_or_an_override_with_a_reason(
    store: DjangoStore, settings: Settings, alias: str
) -> None:
    unknown = Assessment("INSUFFICIENT", "INSUFFICIENT: nothing was observed", {"agree": 0})
    move(store, settings, Stage.MIRROR, verdict=None)

    for verdict, words in ((None, "nobody has judged"), (unknown, "nothing was observed")):
        with pytest.raises(TransitionRefused, match=f"orders cannot go to live 1%: .*{words}.*--override"):
            move(store, settings, Stage.LIVE, 100, verdict=verdict)
    with pytest.raises(TransitionRefused, match="an override needs a reason"):
        move(store, settings, Stage.LIVE, 100, verdict=unknown, override=True, why="  ")
    assert len(audit_of(alias)) == 1

    # It lifts the rungs as well, and both stand in the audit.
    move(store, settings, Stage.LIVE, 2_500, verdict=unknown, override=True, why="compared by hand")
    row = audit_of(alias)[-1]
    assert (row.override, row.verdict, row.why) == (True, unknown.document(), "compared by hand")
    with pytest.raises(TransitionRefused, match="next is live 50%"):
        move(store, settings, Stage.LIVE, 10_000)
    # Back needs nothing at all.
    assert move(store, settings, Stage.LIVE, 100, verdict=None).happened


def test_nothing_lifts_the_way_through_mirror(store: DjangoStore, settings: Settings) -> None:
    with pytest.raises(TransitionRefused, match="next is mirror"):
        move(store, settings, Stage.LIVE, 100, override=True, why="now")
    move(store, settings, Stage.MIRROR)
    with pytest.raises(TransitionRefused, match="next is shadow 1% or live 1%"):
        move(store, settings, Stage.COMPLETE, override=True, why="now")


def test_what_is_held_goes_back_only(store: DjangoStore, settings: Settings, alias: str) -> None:
    move(store, settings, Stage.MIRROR)
    held = move(store, settings, action="hold", who="grace", why="sale")
    assert (held.after.hold, held.after.stage, held.after.epoch) == (True, Stage.MIRROR, 2)
    assert not move(store, settings, action="hold").happened

    with pytest.raises(TransitionRefused, match=r"orders is held by grace since 20.* UTC: `taskbridge release orders`"):
        move(store, settings, Stage.LIVE, 100, override=True, why="now")
    with pytest.raises(TransitionRefused, match="orders is held by grace"):
        move(store, settings, Stage.LIVE, 100, task=TASK)
    assert move(store, settings, Stage.OFF).after.hold
    with pytest.raises(TransitionRefused, match="orders is held by grace"):
        move(store, settings, Stage.MIRROR)

    assert move(store, settings, action="release").after.hold is False
    assert move(store, settings, Stage.MIRROR).happened
    assert [row.action for row in audit_of(alias)] == ["move", "hold", "move", "release", "move"]


def test_a_task_can_be_elsewhere_than_its_service(store: DjangoStore, settings: Settings, alias: str) -> None:
    move(store, settings, Stage.MIRROR)
    first = move(store, settings, Stage.LIVE, 100, task=TASK)

    # Without a stage of its own it was where its service is.
    assert first.before == Flag("orders", Stage.MIRROR, task=TASK, cleared=True)
    assert (first.after.stage, first.after.basis_points, first.after.epoch) == (Stage.LIVE, 100, 1)
    assert first.after in store.flags_since(0)
    with pytest.raises(TransitionRefused, match="next is live 5%"):
        move(store, settings, Stage.LIVE, 2_500, task=TASK)
    move(store, settings, Stage.OFF, task=TASK)
    move(store, settings, Stage.LIVE, 100)

    # To clear it leads forward now, since its service is live.
    with pytest.raises(TransitionRefused, match="nobody has judged"):
        move(store, settings, action="clear", task=TASK, verdict=None)
    gone = move(store, settings, action="clear", task=TASK)
    assert gone.after.cleared
    assert store.task_flag_states("orders") == {}
    assert not move(store, settings, action="clear", task=TASK).happened
    rows = [row for row in audit_of(alias) if row.task]
    assert [(row.action, row.after["epoch"]) for row in rows] == [("move", 1), ("move", 2), ("clear", 3)]


def test_a_task_can_be_held(store: DjangoStore, settings: Settings) -> None:
    with pytest.raises(TransitionRefused, match=f"{TASK} has no stage of its own"):
        move(store, settings, action="hold", task=TASK)
    move(store, settings, Stage.MIRROR)
    move(store, settings, Stage.LIVE, 100, task=TASK)
    move(store, settings, action="hold", task=TASK)
    with pytest.raises(TransitionRefused, match=f"{TASK} is held by ada .*`taskbridge release orders --task {TASK}`"):
        move(store, settings, Stage.LIVE, 500, task=TASK)
    assert move(store, settings, Stage.LIVE, 100).happened


def test_kill_leaves_nothing_behind_and_asks_nothing(store: DjangoStore, settings: Settings, alias: str) -> None:
    move(store, settings, Stage.MIRROR)
    move(store, settings, Stage.LIVE, 100)
    move(store, settings, Stage.OFF, task=TASK)
    move(store, settings, Stage.LIVE, 500, task="shop.orders.place")
    move(store, settings, action="hold")
    with pytest.raises(TransitionOvertaken):
        move(store, settings, action="kill", expected_epoch=1)

    change = move(store, settings, action="kill", why="charged twice", verdict=None)

    assert (change.after.stage, change.after.hold) == (Stage.OFF, True)
    assert change.cleared == (TASK, "shop.orders.place")
    assert store.task_flag_states("orders") == {}
    rows = audit_of(alias)[-3:]
    assert {(row.action, row.task, row.why) for row in rows} == {
        ("kill", task, "charged twice") for task in ("", TASK, "shop.orders.place")
    }
    assert not move(store, settings, action="kill", verdict=None).happened


def test_kill_also_clears_the_tasks_of_a_service_that_is_off(store: DjangoStore, settings: Settings) -> None:
    move(store, settings, Stage.MIRROR, task=TASK)
    change = move(store, settings, action="kill")
    assert change.happened
    assert (change.before, change.cleared) == (change.after, (TASK,))


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"stage": Stage.MIRROR, "service": "ledger", "task": "shop.ledger.book"}, "ledger is an ordered service"),
        ({"action": "kill", "task": TASK}, "kill takes a whole service"),
        ({"action": "clear"}, "clear takes a task"),
        ({"action": "hold", "stage": Stage.OFF}, "hold takes no stage"),
        ({}, "a move needs a stage"),
        ({"stage": Stage.MIRROR, "why": "a\0b"}, "NUL character"),
    ],
)
def test_requests_that_make_no_sense(
    store: DjangoStore, settings: Settings, alias: str, request_: dict[str, Any], words: str
) -> None:
    with pytest.raises(TransitionRefused, match=words):
        move(store, settings, **request_)
    assert audit_of(alias) == []


def test_an_ordered_service_is_fenced_while_its_keys_change_side(store: DjangoStore, settings: Settings) -> None:
    def go(stage: Stage, basis_points: int = 0) -> Flag:
        return move(store, settings, stage, basis_points, service="ledger").after

    go(Stage.MIRROR)
    assert store.flag_states()["ledger"].flag.fence is None
    fences = [go(Stage.LIVE, 100).fence, go(Stage.LIVE, 500).fence, go(Stage.OFF).fence]
    assert fences[0] == Fence(0, 100, frozenset({"celery"}))
    assert fences[2] == Fence(0, 500, frozenset({"celery", "kafka"}))
    assert store.flag_states()["ledger"].flag.fence == fences[2]


def test_a_request_that_comes_twice_is_carried_out_once(store: DjangoStore, settings: Settings, alias: str) -> None:
    request = Request(service="orders", who="operator", stage=Stage.MIRROR, request_id="uid/7")
    assert answered(store, request) is None
    first = transition(store, settings, request)
    move(store, settings, action="kill")

    again = transition(store, settings, request)

    assert again.repeated
    assert (again.before, again.after, again.version) == (first.before, first.after, first.version)
    assert answered(store, request) == again
    assert store.flag_states()["orders"].flag.stage is Stage.OFF
    with pytest.raises(TransitionOvertaken, match="'uid/7' belongs to another request of orders, a move to mirror"):
        transition(store, settings, Request(service="orders", who="operator", action="kill", request_id="uid/7"))
    # Ids are a service's own.
    assert transition(
        store, settings, Request(service="fraud", who="o", stage=Stage.MIRROR, request_id="uid/7")
    ).happened
    assert len(audit_of(alias)) == 3


def test_a_request_with_nothing_to_do_is_not_carried_out_later(store: DjangoStore, settings: Settings) -> None:
    request = Request(service="orders", who="operator", stage=Stage.MIRROR, request_id="uid/8")
    move(store, settings, Stage.MIRROR)
    assert not transition(store, settings, request).happened
    move(store, settings, Stage.OFF)

    assert transition(store, settings, request).repeated
    assert store.flag_states()["orders"].flag.stage is Stage.OFF


def test_the_audit_is_read_newest_first(store: DjangoStore, settings: Settings, alias: str) -> None:
    move(store, settings, Stage.MIRROR, why="to compare")
    move(store, settings, Stage.MIRROR, service="fraud")
    move(store, settings, Stage.LIVE, 100)

    rows = transitions(store, "orders")

    assert [row["after"]["stage"] for row in rows] == ["live", "mirror"]
    assert rows[0]["before"] == {"stage": "mirror", "percent": 0, "epoch": 1, "hold": False}
    assert rows[1] | {"id": 0, "at": ""} == {
        "id": 0,
        "at": "",
        "service": "orders",
        "task": "",
        "action": "move",
        "who": "ada",
        "why": "to compare",
        "override": False,
        "verdict": READY.document(),
        "request_id": "",
        "before": {"stage": "off", "percent": 0, "epoch": 0, "hold": False},
        "after": {"stage": "mirror", "percent": 0, "epoch": 1, "hold": False},
    }
    assert len(transitions(store)) == 3
    assert [row["service"] for row in transitions(store, limit=1)] == ["orders"]
    assert transitions(store, "orders", before=rows[0]["id"]) == rows[1:]
    assert transitions(store, since=audit_of(alias)[-1].at) == rows[:1]


def test_the_database_refuses_to_change_the_audit(store: DjangoStore, settings: Settings, alias: str) -> None:
    move(store, settings, Stage.MIRROR)
    for statement in ("UPDATE taskbridge_transition SET who = 'nobody'", "DELETE FROM taskbridge_transition"):
        with connections[alias].cursor() as cursor, pytest.raises(Error, match="never changed or deleted"):
            cursor.execute(statement)
    assert [row.who for row in audit_of(alias)] == ["ada"]
