"""Transitions in a real PostgreSQL, from the function to the command."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from click.testing import CliRunner, Result
from django.db import connections, transaction

from taskbridge.adapters.kafka.admin import KafkaAdmin
from taskbridge.cli.cutover import cutover
from taskbridge.contrib.django.store import DjangoStore
from taskbridge.contrib.django.transition import Change, transition
from taskbridge.cutover import Flag, Stage
from taskbridge.exceptions import BrokerUnavailable, StoreUnavailable, TransitionRefused
from taskbridge.settings import Settings

pytestmark = pytest.mark.services

MAPPING = {"services": {"orders": {"tasks": ["shop.orders.*"], "partitions": 3}, "fraud": {"tasks": ["shop.fraud.*"]}}}


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


def move(store: DjangoStore, settings: Settings, stage: Stage, basis_points: int = 0, **options: object) -> Change:
    options.setdefault("who", "ada")
    return transition(store, settings, "orders", stage, basis_points, **options)  # type: ignore[arg-type]


def test_a_transition_writes_flag_and_audit_together(store: DjangoStore, settings: Settings, alias: str) -> None:
    first = move(store, settings, Stage.MIRROR, why="to compare")
    second = move(store, settings, Stage.LIVE, 1_000)

    assert first.before == Flag("orders", Stage.OFF)
    assert (first.after.epoch, second.after.epoch) == (1, 2)
    assert second.after == Flag("orders", Stage.LIVE, 1_000, 2, second.after.version)
    assert second.after.version > first.after.version
    assert list(store.flags_since(-1)) == [second.after]
    state, audit = store.flag_states()["orders"], audit_of(alias)
    assert (state.flag, state.flag.version) == (second.after, audit[1].id)
    assert state.changed_at == audit[1].at
    assert [(item.who, item.why) for item in audit] == [("ada", "to compare"), ("ada", "")]
    assert audit[1].before == audit[0].after
    assert audit[1].after["stage"] == "live"


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
        ("order", Stage.MIRROR, 0, "no service 'order'; TASKBRIDGE names: fraud, orders"),
        ("orders", Stage.LIVE, 100, "orders is off and cannot go live at once: mirror it first"),
        ("orders", Stage.LIVE, 0, "0 basis points do not go with live"),
        ("orders", Stage.LIVE, 10_001, "10001 basis points do not go with live"),
        ("orders", Stage.MIRROR, 5, "5 basis points do not go with mirror"),
    ],
)
def test_refusals_change_nothing(
    store: DjangoStore, settings: Settings, alias: str, service: str, stage: Stage, basis_points: int, words: str
) -> None:
    with pytest.raises(TransitionRefused, match=words):
        transition(store, settings, service, stage, basis_points, who="ada")

    assert audit_of(alias) == []
    assert store.flags_since(-1) == []


def test_objections_stand_against_more_kafka_and_never_against_less(store: DjangoStore, settings: Settings) -> None:
    def objections() -> list[str]:
        return ["a.b uses rate_limit: remove it", "c.d uses priority: remove it"]

    move(store, settings, Stage.MIRROR, objections=objections)
    with pytest.raises(TransitionRefused, match=r"orders cannot go live: a\.b uses rate_limit: .*; c\.d uses priority"):
        move(store, settings, Stage.LIVE, 1_000, objections=objections)

    move(store, settings, Stage.LIVE, 1_000)
    with pytest.raises(TransitionRefused, match="cannot go live"):
        move(store, settings, Stage.LIVE, 1_001, objections=objections)
    assert move(store, settings, Stage.LIVE, 500, objections=objections).happened
    assert move(store, settings, Stage.MIRROR, objections=objections).happened


def test_an_epoch_that_has_passed_is_refused(store: DjangoStore, settings: Settings) -> None:
    move(store, settings, Stage.MIRROR)

    with pytest.raises(TransitionRefused, match="orders was moved meanwhile: it is mirror in epoch 1, not in epoch 0"):
        move(store, settings, Stage.OFF, expected_epoch=0)
    assert move(store, settings, Stage.OFF, expected_epoch=1).after.epoch == 2


def test_of_many_at_once_one_wins_and_no_reader_misses_a_version(
    store: DjangoStore, settings: Settings, alias: str
) -> None:
    def attempt(service: str, number: int) -> int:
        wanted = Stage.MIRROR if number % 2 else Stage.OFF
        try:
            return int(transition(store, settings, service, wanted, 0, who=f"{number}").happened)
        except TransitionRefused as refused:
            refusals.add(str(refused).split(":")[0])
            return 0

    refusals: set[str] = set()
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
    assert refusals <= {"orders was moved meanwhile", "fraud was moved meanwhile"}
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


def task() -> None:
    """A task."""


class Project:
    """A Celery app with a bridge, as commands see it."""

    def __init__(self, store: DjangoStore, kafka: str, prefix: str) -> None:
        self.app = Celery("project", broker="memory://", set_as_current=False)
        self.app.task(name="shop.orders.place", shared=False)(task)
        self.settings = Settings.from_mapping({"prefix": prefix} | MAPPING, {"KAFKA_BOOTSTRAP_SERVERS": kafka})
        self.bridge = SimpleNamespace(app=self.app, settings=self.settings, store=store)


@pytest.fixture
def project(store: DjangoStore, kafka_bootstrap: str, topic_prefix: str, monkeypatch: pytest.MonkeyPatch) -> Project:
    project = Project(store, kafka_bootstrap, topic_prefix)
    monkeypatch.setattr("taskbridge.cli.context.load_bridge", lambda _: project.bridge)
    return project


def command(*arguments: str) -> Result:
    return CliRunner().invoke(cutover, arguments, obj="project", catch_exceptions=False)


def test_cutover_prepares_kafka_and_says_what_comes_next(project: Project, topic_prefix: str) -> None:
    first = command("orders", "mirror", "--reason", "to compare")

    assert first.exit_code == 0
    assert f"topic {topic_prefix}.orders.shadow, 3 partitions: created" in first.output
    assert f"group {topic_prefix}.orders.shadow was given first offsets in 3 partitions" in first.output
    assert "orders went from off to mirror (epoch 0 -> 1)" in first.output
    assert "Roll back:  taskbridge cutover orders off" in first.output
    for role in ("live", "shadow"):
        lag = KafkaAdmin(project.settings).lag("orders", role)
        assert ([item.committed for item in lag.partitions], lag.why_incomplete) == ([0, 0, 0], "")

    assert command("orders", "mirror").output == "orders is mirror already; nothing changed.\n"

    outcome = json.loads(command("orders", "live", "--percent", "12.5", "--json").output)
    assert outcome == {
        "service": "orders",
        "changed": True,
        "dry_run": False,
        "before": {"stage": "mirror", "percent": 0.0, "epoch": 1},
        "after": {"stage": "live", "percent": 12.5, "epoch": 2},
        "created": {"topics": [], "offsets": []},
        "rollback": "taskbridge cutover orders mirror",
    }
    back = command("orders", "off").output
    assert "orders went from live 12.5% to off (epoch 2 -> 3)" in back
    # From off, live is one command too far away.
    assert "Forward again:  taskbridge cutover orders mirror" in back


def test_a_dry_run_changes_nothing(project: Project, store: DjangoStore) -> None:
    found = command("orders", "mirror", "--dry-run")

    assert "orders would go from off to mirror (epoch 0 -> 1)" in found.output
    assert "3 partitions: missing" in found.output
    assert "Nothing was changed" in found.output
    assert store.flags_since(-1) == []
    assert KafkaAdmin(project.settings).lag("orders").why_incomplete == "the topic does not exist"


def test_a_refused_cutover_leaves_kafka_alone(project: Project) -> None:
    for arguments, words in (
        (("orders", "live", "--percent", "10"), "mirror it first"),
        (("orders", "live", "--percent", "0"), "0 is not a percentage"),
        (("orders", "live"), "live needs --percent"),
        (("orders", "mirror", "--percent", "5"), "belongs to live only"),
        (("orders", "sideways"), "there is no stage 'sideways'"),
        (("order", "mirror"), "there is no service 'order'"),
    ):
        with pytest.raises(TransitionRefused, match=words):
            command(*arguments)
    assert KafkaAdmin(project.settings).lag("orders").why_incomplete == "the topic does not exist"


def test_what_the_worker_lacks_is_named_before_going_live(project: Project) -> None:
    project.app.task(name="shop.orders.crawl", rate_limit="5/m", shared=False)(task)
    command("orders", "mirror")

    with pytest.raises(TransitionRefused, match=r"orders cannot go live: shop\.orders\.crawl uses rate_limit"):
        command("orders", "live", "--percent", "10")


def test_a_rollback_does_not_need_kafka(project: Project, store: DjangoStore, monkeypatch: pytest.MonkeyPatch) -> None:
    command("orders", "mirror")
    command("orders", "live", "--percent", "50")
    away = Settings.from_mapping(MAPPING, {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"})
    project.bridge.settings = away
    monkeypatch.setattr("taskbridge.cli.cutover.KafkaAdmin", lambda settings: KafkaAdmin(settings, timeout=1.0))

    for arguments in (("live", "--percent", "10"), ("mirror",), ("off",)):
        assert command("orders", *arguments).exit_code == 0
    with pytest.raises(BrokerUnavailable, match=r"Kafka at 127\.0\.0\.1:1 did not answer within 1 s"):
        command("orders", "mirror")
    assert [flag.stage for flag in store.flags_since(-1)] == [Stage.OFF]
