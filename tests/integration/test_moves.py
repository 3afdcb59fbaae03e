"""Commands that move services, against a real PostgreSQL, Kafka and Redis: what they ask, refuse, create and say."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from celery import Celery
from click.testing import CliRunner, Result
from confluent_kafka import Consumer, Producer

from taskbridge.adapters.celery.addressing import Addressing
from taskbridge.adapters.kafka.admin import KafkaAdmin
from taskbridge.cli.audit import audit
from taskbridge.cli.cutover import cutover
from taskbridge.cli.hold import hold
from taskbridge.cli.kill import kill
from taskbridge.cli.release import release
from taskbridge.contrib.django import moves
from taskbridge.contrib.django.moves import MoveRefused, carry_out, plan
from taskbridge.contrib.django.rules import Request
from taskbridge.contrib.django.store import DjangoStore
from taskbridge.cutover import Stage
from taskbridge.exceptions import BrokerUnavailable, ConfigurationError, TransitionOvertaken, TransitionRefused
from taskbridge.observation import Batch, DispatchRow, dumps
from taskbridge.ports import Assessment
from taskbridge.settings import Settings
from tests.project.harness import wait_for

pytestmark = pytest.mark.services

MAPPING = {
    "quiet_before_complete": 1e-6,
    "services": {
        "orders": {"tasks": ["shop.orders.*"], "partitions": 3},
        "fraud": {"tasks": ["shop.fraud.*"], "partitions": 1},
        "ledger": {"tasks": ["shop.ledger.*"], "partitions": 1, "ordered": True},
    },
}
PLACE, EXPORT = "shop.orders.place", "shop.orders.export"
OVERRIDE = ("--override", "--reason", "compared by hand")


def task() -> None:
    """A task."""


class Verdict:
    """A Readiness that says what a test wants."""

    def __init__(self, *_: object) -> None:
        self.asked: list[tuple[str, str]] = []

    def assess(self, service: str, task: str = "") -> Assessment:
        return Assessment("READY", f"READY: enough is known of {task or service}", {"agree": 1})


class Project:
    """A Celery app with a bridge, as commands see it."""

    def __init__(self, store: DjangoStore, kafka: str, redis: str, prefix: str) -> None:
        self.app = Celery("project", broker=redis, set_as_current=False)
        self.app.conf.task_default_queue = prefix
        for name in (PLACE, EXPORT):
            self.app.task(name=name, shared=False)(task)
        self.settings = Settings.from_mapping({"prefix": prefix} | MAPPING, {"KAFKA_BOOTSTRAP_SERVERS": kafka})
        self.store = store
        self.bridge: Any = SimpleNamespace(
            app=self.app, settings=self.settings, store=store, addressing=Addressing(self.app, self.settings)
        )

    def stage(self, service: str = "orders") -> str:
        state = self.store.flag_states().get(service)
        return str(state.flag.stage) if state else "off"

    def unreachable(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Take Kafka away."""
        mapping = {"prefix": self.settings.prefix} | MAPPING
        self.bridge.settings = Settings.from_mapping(mapping, {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"})
        monkeypatch.setattr(moves, "PATIENCE", 1.0)
        monkeypatch.setattr("taskbridge.contrib.django.readiness.PATIENCE", 1.0)


@pytest.fixture
def store(alias: str) -> Iterator[DjangoStore]:
    store = DjangoStore(alias)
    yield store
    store.sessions.close()


@pytest.fixture
def project(
    store: DjangoStore, kafka_bootstrap: str, redis_url: str, topic_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Project]:
    project = Project(store, kafka_bootstrap, redis_url, topic_prefix)
    monkeypatch.setattr("taskbridge.cli.context.load_bridge", lambda _: project.bridge)
    with closing(project.app):
        yield project


@pytest.fixture
def ready(monkeypatch: pytest.MonkeyPatch) -> None:
    """The evidence suffices."""
    monkeypatch.setattr(moves, "ComparisonReadiness", Verdict)


def run(command: Any, *arguments: str) -> Result:
    return CliRunner().invoke(command, arguments, obj="project", catch_exceptions=False)


def move(*arguments: str) -> Result:
    return run(cutover, "orders", *arguments)


@pytest.fixture
def worker(project: Project) -> Iterator[None]:
    """Somebody who owns every partition of `orders`, as a worker does."""
    assert move("mirror").exit_code == 0
    topic = project.settings.topic("orders")
    config = {
        "bootstrap.servers": project.settings.kafka.bootstrap_servers,
        "group.id": project.settings.group("orders"),
        "group.protocol": "consumer",
    }
    with closing(Consumer(config)) as consumer:
        consumer.subscribe([topic])
        wait_for(lambda: consumer.poll(0.05) or len(consumer.assignment()) == 3, "the assignment")
        yield


def test_cutover_prepares_kafka_and_says_what_comes_next(project: Project, topic_prefix: str) -> None:
    first = move("mirror", "--reason", "to compare")

    assert first.exit_code == 0
    assert f"topic {topic_prefix}.orders.shadow, 3 partitions: created" in first.output
    assert f"group {topic_prefix}.orders.shadow was given first offsets in 3 partitions" in first.output
    assert "orders went from off to mirror (epoch 0 -> 1)" in first.output
    assert "Roll back:  taskbridge cutover orders off" in first.output
    for role in ("live", "shadow"):
        lag = KafkaAdmin(project.settings).lag("orders", role)
        assert ([item.committed for item in lag.partitions], lag.why_incomplete) == ([0, 0, 0], "")

    assert move("mirror").output == "orders is mirror already; nothing changed.\n"

    outcome = json.loads(move("live", "--percent", "12.5", "--json", *OVERRIDE).output)
    assert [one["name"] for one in outcome.pop("overridden")] == ["step", "verdict", "members"]
    assert outcome == {
        "service": "orders",
        "task": "",
        "action": "move",
        "changed": True,
        "dry_run": False,
        "repeated": False,
        "before": {"stage": "mirror", "percent": 0.0, "epoch": 1, "hold": False},
        "after": {"stage": "live", "percent": 12.5, "epoch": 2, "hold": False},
        "created": {"topics": [], "offsets": []},
        "cleared_tasks": [],
        "rollback": "taskbridge cutover orders mirror",
    }
    back = move("off").output
    assert "orders went from live 12.5% to off (epoch 2 -> 3)" in back
    # From off, live is one command too far away.
    assert "Forward again:  taskbridge cutover orders mirror" in back


def test_a_dry_run_shows_everything_and_changes_nothing(project: Project, store: DjangoStore) -> None:
    found = move("mirror", "--dry-run")
    assert found.exit_code == 0
    assert "orders would go from off to mirror (epoch 0 -> 1)" in found.output
    assert "ok   hold: nobody holds it" in found.output
    assert "3 partitions: missing" in found.output
    assert "Nothing was changed" in found.output
    assert store.flags_since(-1) == []
    assert KafkaAdmin(project.settings).lag("orders").why_incomplete == "the topic does not exist"

    move("mirror")
    found = move("live", "--percent", "10", "--dry-run", "--json")
    assert found.exit_code == 2
    document = json.loads(found.stdout)
    assert (document["allowed"], document["verdict"]["state"]) == (False, "INSUFFICIENT")
    assert {one["name"]: (one["ok"], one["overridable"]) for one in document["conditions"]} == {
        "hold": (True, False),
        "step": (False, True),
        "verdict": (False, True),
        "kafka": (True, False),
        "tasks": (True, False),
        "members": (False, True),
    }
    assert found.stderr.startswith("error: orders cannot go to live 10%: next is shadow 1% or live 1%; INSUFFICIENT: ")
    assert "; no worker runs for" in found.stderr
    assert move("live", "--percent", "10", "--dry-run", *OVERRIDE).exit_code == 0
    assert project.stage() == "mirror"


def test_a_ready_service_with_workers_needs_no_override(project: Project, ready: None, worker: None) -> None:
    outcome = json.loads(move("live", "--percent", "1", "--json").output)
    assert (outcome["changed"], outcome["overridden"]) == (True, [])
    rows = json.loads(run(audit, "orders", "--json").output)["transitions"]
    assert [(row["verdict"] or {}).get("state") for row in rows] == ["READY", None]
    assert not any(row["override"] for row in rows)


def test_a_refused_cutover_leaves_kafka_alone(project: Project) -> None:
    for arguments, words in (
        (("live", "--percent", "10"), "next is mirror"),
        (("live", "--percent", "0"), "0 is not a percentage"),
        (("live",), "live needs --percent"),
        (("mirror", "--percent", "5"), "belongs to shadow and live"),
        (("clear", "--task", PLACE, "--percent", "5"), "belongs to shadow and live"),
        (("sideways",), "there is no stage 'sideways'"),
        (("mirror", "--override"), "an override needs a reason"),
        (("mirror", "--task", "shop.fraud.score"), f"orders has no task 'shop.fraud.score'; its tasks: {EXPORT}"),
    ):
        with pytest.raises(TransitionRefused, match=words):
            move(*arguments)
    for arguments in (("order", "mirror"), ("order", "off"), ("order", "clear", "--task", "a.b")):
        with pytest.raises(TransitionRefused, match="there is no service 'order'"):
            run(cutover, *arguments)
    with pytest.raises(TransitionOvertaken, match="it is off in epoch 0, not in epoch 3"):
        move("mirror", "--expect-epoch", "3")
    assert KafkaAdmin(project.settings).lag("orders").why_incomplete == "the topic does not exist"


def test_what_the_worker_lacks_is_named_and_nothing_lifts_it(project: Project) -> None:
    project.app.task(name="shop.orders.crawl", rate_limit="5/m", shared=False)(task)
    move("mirror")
    words = r"orders cannot go to live 1%: shop\.orders\.crawl uses rate_limit"
    with pytest.raises(MoveRefused, match=words) as refused:
        move("live", "--percent", "1", *OVERRIDE)
    assert [one.name for one in refused.value.plan.against] == ["tasks"]

    # A task that stays behind does not hold the others up.
    assert move("off", "--task", "shop.orders.crawl").exit_code == 0
    assert move("live", "--percent", "1", *OVERRIDE).exit_code == 0
    with pytest.raises(TransitionRefused, match="uses rate_limit"):
        move("clear", "--task", "shop.orders.crawl", *OVERRIDE)


def test_one_task_goes_ahead_and_comes_back(project: Project, store: DjangoStore) -> None:
    move("mirror")
    said = move("live", "--percent", "1", "--task", PLACE, *OVERRIDE).output
    assert f"{PLACE} went from mirror (as orders is) to live 1% (epoch 0 -> 1)" in said
    assert f"Roll back:  taskbridge cutover orders clear --task {PLACE}" in said
    assert list(store.task_flag_states("orders")) == [PLACE]

    said = move("clear", "--task", PLACE).output
    assert f"{PLACE} went from live 1% to mirror (as orders is) (epoch 1 -> 2)" in said
    assert store.task_flag_states("orders") == {}


def test_a_task_that_is_only_sent_by_name_belongs_where_its_name_says(project: Project, store: DjangoStore) -> None:
    move("mirror", "--task", "shop.orders.elsewhere")
    assert list(store.task_flag_states("orders")) == ["shop.orders.elsewhere"]


def test_hold_release_and_kill(project: Project) -> None:
    said = run(hold, "orders", "--reason", "sale").output
    assert "orders is held at off (epoch 0 -> 1)" in said
    assert "Release:  taskbridge release orders" in said
    with pytest.raises(
        TransitionRefused, match=r"orders is held by .* since .*: `taskbridge release orders` ends that"
    ):
        move("mirror", *OVERRIDE)
    assert run(hold, "orders").output == "orders is off, held, already; nothing changed.\n"
    assert "orders is released at off" in run(release, "orders").output

    move("mirror")
    move("mirror", "--task", PLACE)
    said = run(kill, "orders", "fraud", "--reason", "enough").output
    assert f"orders is off, and was mirror; so are {PLACE}\nfraud is off\n" in said
    document = json.loads(run(kill, "--all", "--json").output)
    assert [(one["service"], one["changed"]) for one in document["killed"]] == [
        ("fraud", False),
        ("ledger", False),
        ("orders", False),
    ]
    done = run(kill, "nonsense", "orders")
    assert done.exit_code == 2
    assert "orders is off" in done.stdout
    assert "there is no service 'nonsense'" in done.stderr
    for arguments in ((), ("orders", "--all")):
        assert "name at least one service (fraud, ledger, orders), or say --all" in run(kill, *arguments).output


def test_the_audit_to_read(project: Project) -> None:
    assert run(audit).output == "No transition yet.\n"
    move("mirror", "--reason", "to compare")
    run(kill, "--all")
    lines = run(audit, "orders").output.splitlines()
    assert [line.split(" UTC  ")[1] for line in lines[::2]] == [
        "kill orders  mirror → off",
        "move orders  off → mirror",
    ]
    assert lines[3].startswith("    by ")
    assert lines[3].endswith(": to compare")
    assert run(audit, "orders", "--limit", "1").output.count("orders") == 1
    assert run(audit, "fraud").output == "No transition yet.\n"
    with pytest.raises(ConfigurationError, match="there is no service 'order'"):
        run(audit, "order")


def test_a_rollback_does_not_need_kafka(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    move("mirror")
    move("live", "--percent", "50", *OVERRIDE)
    project.unreachable(monkeypatch)

    for arguments in (("live", "--percent", "10"), ("mirror",), ("off",)):
        assert move(*arguments).exit_code == 0
    with pytest.raises(BrokerUnavailable, match=r"Kafka at 127\.0\.0\.1:1 did not answer within 1 s"):
        move("mirror")
    assert run(kill, "--all").exit_code == 0
    assert project.stage() == "off"


def test_a_plan_says_that_kafka_is_away(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    move("mirror")
    project.unreachable(monkeypatch)
    request = Request(service="orders", stage=Stage.LIVE, basis_points=100, who="ada")

    found = plan(project.bridge, request)

    assert isinstance(found.unavailable, BrokerUnavailable)
    assert {one.name for one in found.against} == {"verdict", "kafka", "members"}
    with pytest.raises(BrokerUnavailable):
        carry_out(project.bridge, request)


def test_a_request_that_was_carried_out_is_answered_without_kafka(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = Request(service="orders", stage=Stage.MIRROR, who="operator", request_id=str(uuid4()))
    first = carry_out(project.bridge, request)
    run(kill, "orders")
    project.unreachable(monkeypatch)

    again = carry_out(project.bridge, request)

    assert again.change.repeated
    assert again.change.after.epoch == first.change.after.epoch
    assert project.stage() == "off"


def test_an_ordered_service_waits_until_every_process_knows_it(project: Project, ready: None) -> None:
    assert run(cutover, "ledger", "mirror").exit_code == 0
    found = run(cutover, "ledger", "live", "--percent", "1", "--dry-run", *OVERRIDE)
    assert found.exit_code == 2
    assert "NO   order: ledger is ordered and has been in mirror for less than 10 s" in found.output
    with pytest.raises(MoveRefused, match="repeat in"):
        run(cutover, "ledger", "live", "--percent", "1", *OVERRIDE)
    assert run(kill, "ledger").exit_code == 0


def dispatched(at: float, route: str) -> Batch:
    row = DispatchRow("an-id", 0, 0, PLACE, "k", route, 1, 1, at, "none", "b0d1", "live")  # type: ignore[arg-type]
    return Batch("dispatch", "orders", "web:1:aa", (row,))


def observe(project: Project, batch: Batch) -> None:
    producer = Producer({"bootstrap.servers": project.settings.kafka.bootstrap_servers})
    producer.produce(project.settings.observations_topic, dumps(batch), batch.service.encode())
    assert producer.flush(10) == 0


def test_complete_only_when_celery_has_nothing_left(project: Project, ready: None, worker: None) -> None:
    with pytest.raises(TransitionRefused, match="next is shadow 1% or live 1%"):
        move("complete", *OVERRIDE)
    move("live", "--percent", "100", *OVERRIDE)
    move("mirror", "--task", EXPORT)
    project.app.send_task(PLACE)
    with pytest.raises(MoveRefused) as refused:
        move("complete", *OVERRIDE)
    assert [one.name for one in refused.value.plan.against] == ["task flags", "celery"]
    assert f"Celery's broker holds 1 messages in {project.settings.prefix}: let its workers finish" in str(
        refused.value
    )

    with project.app.connection_for_write() as connection, connection.channel() as channel:
        channel.queue_purge(project.settings.prefix)
    move("clear", "--task", EXPORT, *OVERRIDE)
    said = move("complete").output
    assert "orders went from live 100% to complete" in said
    assert "Roll back:  taskbridge cutover orders live --percent 100" in said


def test_complete_waits_until_celery_was_quiet(project: Project, ready: None, worker: None) -> None:
    import time

    move("live", "--percent", "100", *OVERRIDE)
    observe(project, dispatched(time.time(), "kafka"))
    observe(project, dispatched(time.time() - 3, "celery"))
    project.bridge.settings = Settings.from_mapping(
        {"prefix": project.settings.prefix} | MAPPING | {"quiet_before_complete": 3600},
        {"KAFKA_BOOTSTRAP_SERVERS": project.settings.kafka.bootstrap_servers},
    )

    with pytest.raises(MoveRefused, match=r"may have received something of orders .* ago, and 60 minutes are asked"):
        move("complete")
    assert move("complete", *OVERRIDE).exit_code == 0
