"""Where each message goes, and what is written down about it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from taskbridge.cutover import FlagCache, Stage
from taskbridge.dispatch import Dispatcher, Outgoing
from taskbridge.exceptions import PublishAmbiguous, PublishRefused, StoreUnavailable
from taskbridge.observation import DispatchRow
from taskbridge.record import SANDBOX, Message, decode
from taskbridge.routing import bucket
from taskbridge.settings import ServiceSettings
from taskbridge.testing import FakeFlags, FakePending, FakePublisher, RecordingObserver, settings

NOW = 1_760_000_000.0


class Road:
    """A dispatcher among doubles; `celery` are the ids that Celery's broker took, in order with all else in `log`."""

    def __init__(self, **service: Any) -> None:
        self.settings = settings(ServiceSettings("orders", tasks=("orders.*",), **service), breaker_seconds=5.0)
        self.service = self.settings.services["orders"]
        self.flags = FakeFlags()
        self.confirmed, self.best_effort = FakePublisher(), FakePublisher()
        self.pending, self.observer = FakePending(), RecordingObserver()
        self.celery: list[str] = []
        self.celery_error: Exception | None = None
        self.time = 0.0
        self.dispatcher = Dispatcher(
            self.settings,
            FlagCache(self.flags, {"orders": Stage.OFF}, self.clock, max_age=0.0),
            self.confirmed,
            self.best_effort,
            self.pending,
            self.observer,
            wall=lambda: NOW,
            clock=self.clock,
        )

    def clock(self) -> float:
        return self.time

    def send(self, task_id: str = "id-1", key: str | None = None, **changes: Any) -> Any:
        def to_celery() -> str:
            if self.celery_error is not None:
                raise self.celery_error
            self.celery.append(task_id)
            return "celery's answer"

        message = Message("orders.place", task_id, b"[[],{},{}]", "application/json", "utf-8", b"{}", b"{}")
        unsupported: Callable[[], str] = changes.pop("unsupported", lambda: "")
        build: Callable[[], Message] = changes.pop("message", lambda: message)
        outgoing = Outgoing(
            self.service, "orders.place", task_id, 0, 0, key or task_id, message.body, to_celery, build, unsupported
        )
        for name, value in changes.items():
            setattr(outgoing, name, value)
        return self.dispatcher.dispatch(self.dispatcher.flag("orders"), outgoing)

    @property
    def rows(self) -> list[DispatchRow]:
        return [row for row in self.observer.rows if isinstance(row, DispatchRow)]

    def count(self, what: Any) -> int:
        return self.dispatcher.counters.get("orders", what)


@pytest.fixture
def road() -> Road:
    return Road()


def live(road: Road, basis_points: int = 10_000) -> None:
    road.flags.set("orders", Stage.LIVE, basis_points)


def test_off_is_celery_and_leaves_no_trace(road: Road) -> None:
    assert road.send() == "celery's answer"
    assert road.celery == ["id-1"]
    assert (road.best_effort.records, road.confirmed.records, road.rows) == ([], [], [])


def test_mirror_sends_celery_the_task_and_the_shadow_topic_a_copy(road: Road) -> None:
    flag = road.flags.set("orders", Stage.MIRROR)
    assert road.send(key="k-1") == "celery's answer"
    [(topic, record)] = road.best_effort.records
    message, rest = decode(record.value, record.headers)
    assert (road.celery, topic, record.key, message.task_id) == (["id-1"], "taskbridge.orders.shadow", b"k-1", "id-1")
    assert rest == {
        "bridge-route": "celery",
        "bridge-epoch": str(flag.epoch),
        "bridge-producer": road.dispatcher.numbering.source,
        "bridge-seq": "1",
    }
    [row] = road.rows
    assert (row.route, row.copy, row.stage, row.seq, row.at, row.key) == ("celery", "sent", "mirror", 1, NOW, "k-1")
    assert row.body == "e3e9db52eea14ff3"
    assert road.observer.batches[0].source == road.dispatcher.numbering.source


def test_a_task_that_celery_refused_has_neither_copy_nor_row_nor_number(road: Road) -> None:
    road.flags.set("orders", Stage.MIRROR)
    road.celery_error = OSError("broker is away")
    with pytest.raises(OSError, match="broker is away"):
        road.send()
    assert (road.best_effort.records, road.rows) == ([], [])
    road.celery_error = None
    road.send()
    assert [row.seq for row in road.rows] == [1]


@pytest.mark.parametrize("broken", ["full", "raises", "headers"])
def test_a_lost_copy_is_counted_and_is_nobodys_error(road: Road, broken: str, monkeypatch: Any) -> None:
    road.flags.set("orders", Stage.MIRROR)
    changes: dict[str, Any] = {}
    if broken == "full":
        road.best_effort.room = 0
    elif broken == "raises":

        def offer(topic: str, record: object) -> bool:
            raise RuntimeError("a bug in the publisher")

        monkeypatch.setattr(road.best_effort, "offer", offer)
    else:

        def message() -> Message:
            raise TypeError("Object of type Thing is not JSON serializable")

        changes["message"] = message
    assert road.send(**changes) == "celery's answer"
    assert [row.copy for row in road.rows] == ["lost"]
    assert (road.count("copy_lost"), road.count("copy_sent"), road.count("celery")) == (1, 0, 1)


def test_live_splits_by_the_bucket_of_the_key(road: Road) -> None:
    live(road, 2_500)
    for number in range(300):
        road.send(f"id-{number}", key=f"customer-{number % 40}")
    for number in range(300):
        chosen = bucket(road.settings.salt, f"customer-{number % 40}") < 2_500
        assert (f"id-{number}" in road.celery) is not chosen
    assert len(road.celery) + len(road.confirmed.records) == 300
    assert road.count("kafka") == len(road.confirmed.records) > 0
    assert [row.seq for row in road.rows] == list(range(1, 301))
    assert all((row.route == "celery") == (row.id in road.celery) for row in road.rows)
    assert not road.best_effort.records


def test_live_publishes_to_the_services_topic_and_returns_nothing(road: Road) -> None:
    live(road)
    assert road.send(key="k", traceparent="00-ab-cd-01") is None
    [(topic, record)] = road.confirmed.records
    _, rest = decode(record.value, record.headers)
    assert (topic, record.key, rest["bridge-route"], rest["traceparent"]) == (
        "taskbridge.orders",
        b"k",
        "kafka",
        "00-ab-cd-01",
    )
    assert (road.celery, [row.route for row in road.rows]) == ([], ["kafka"])


def test_what_is_not_due_waits_in_the_database(road: Road) -> None:
    live(road)
    road.send(due=NOW + 60)
    [pending] = road.pending.delayed
    assert pending.due.timestamp() == NOW + 60
    assert pending.due.tzinfo is not None
    assert (pending.service, pending.key, pending.seq, pending.epoch) == ("orders", "id-1", 1, 1)
    assert (pending.producer, pending.message.task_id) == (road.dispatcher.numbering.source, "id-1")
    assert (road.confirmed.records, road.celery, road.count("delayed")) == ([], [], 1)
    assert [(row.route, row.due) for row in road.rows] == [("delayed", NOW + 60)]


def test_an_eta_that_has_passed_is_no_reason_to_wait(road: Road) -> None:
    live(road)
    road.send(due=NOW - 1)
    assert (len(road.confirmed.records), road.pending.delayed) == (1, [])


def test_celery_keeps_its_own_etas(road: Road) -> None:
    live(road, 0)
    road.send(due=NOW + 60)
    assert (road.celery, road.pending.delayed) == (["id-1"], [])


def test_a_message_that_could_not_be_put_aside_is_an_error_and_no_dispatch(road: Road) -> None:
    live(road)
    road.pending.error = StoreUnavailable("the database is away")
    with pytest.raises(StoreUnavailable, match="the database is away"):
        road.send(due=NOW + 60)
    assert (road.celery, road.rows, road.count("delayed")) == ([], [], 0)


def test_refused_goes_to_celery_at_once_and_opens_no_breaker(road: Road) -> None:
    live(road)
    road.confirmed.error = PublishRefused("too large")
    assert road.send("id-1") == "celery's answer"
    road.confirmed.error = None
    road.send("id-2")
    assert (road.celery, len(road.confirmed.records)) == (["id-1"], 1)
    assert [(row.route, row.fallback, row.seq) for row in road.rows] == [("celery", "refused", 1), ("kafka", "", 2)]
    assert (road.count("refused"), road.count("ambiguous")) == (1, 0)


def test_ambiguous_goes_to_the_outbox_under_the_same_id_and_opens_the_breaker(road: Road) -> None:
    live(road)
    road.confirmed.error = PublishAmbiguous("timed out")
    assert road.send("id-1") is None
    assert [pending.message.task_id for pending in road.pending.outboxed] == ["id-1"]
    assert road.celery == []
    road.confirmed.error = None
    road.send("id-2")
    road.time = 4.9
    road.send("id-3")
    assert (road.celery, road.confirmed.records) == (["id-2", "id-3"], [])
    road.time = 5.0
    road.send("id-4")
    road.send("id-5")
    assert [record.headers[3] for _, record in road.confirmed.records] == [("id", b"id-4"), ("id", b"id-5")]
    assert [(row.id, row.route, row.ambiguous, row.fallback) for row in road.rows] == [
        ("id-1", "kafka", 1, ""),
        ("id-2", "celery", 0, "breaker"),
        ("id-3", "celery", 0, "breaker"),
        ("id-4", "kafka", 0, ""),
        ("id-5", "kafka", 0, ""),
    ]
    assert (road.count("breaker"), road.count("ambiguous"), road.count("kafka")) == (2, 1, 3)


def test_while_kafka_is_away_one_attempt_at_a_time_is_made(road: Road) -> None:
    live(road)
    road.confirmed.error = PublishAmbiguous("timed out")
    road.send("id-1")
    road.time = 5.0
    flagged = road.dispatcher.flag("orders")
    attempts: list[str] = []

    def publish(topic: str, record: object) -> None:
        attempts.append("begun")
        if len(attempts) == 1:
            # Another thread's dispatch, while this attempt waits for the broker.
            road.send("id-3")
        raise PublishAmbiguous("timed out")

    road.confirmed.publish = publish  # type: ignore[method-assign,assignment]
    road.send("id-2")
    assert flagged.stage is Stage.LIVE
    assert (len(attempts), road.celery) == (1, ["id-3"])


def test_an_outbox_that_fails_is_the_callers_error(road: Road) -> None:
    live(road)
    road.confirmed.error = PublishAmbiguous("timed out")
    road.pending.error = StoreUnavailable("the database is away too")
    with pytest.raises(StoreUnavailable):
        road.send()
    assert road.celery == []


@pytest.mark.parametrize(
    ("changes", "fallback"),
    [
        ({"unsupported": lambda: "priority"}, "unsupported:priority"),
        ({"unsupported": lambda: "pickle", "due": NOW + 60}, "unsupported:pickle"),
    ],
)
def test_what_only_celerys_worker_can_do_stays_there(road: Road, changes: dict[str, Any], fallback: str) -> None:
    live(road)
    assert road.send(**changes) == "celery's answer"
    assert (road.confirmed.records, road.pending.delayed) == ([], [])
    assert [(row.route, row.fallback) for row in road.rows] == [("celery", fallback)]
    assert road.count("unsupported") == 1


def test_headers_that_are_no_json_stay_with_celery(road: Road) -> None:
    live(road)

    def message() -> Message:
        raise TypeError("not JSON")

    assert road.send(message=message) == "celery's answer"
    assert [row.fallback for row in road.rows] == ["unsupported:headers"]


def test_a_service_may_go_unobserved() -> None:
    road = Road(observe=False)
    live(road)
    road.send()
    assert (len(road.confirmed.records), road.rows) == (1, [])


def test_one_message_one_look_at_the_flag(road: Road) -> None:
    live(road)
    road.send()
    assert road.flags.reads == 1


def test_counts_by_service(road: Road) -> None:
    road.flags.set("orders", Stage.MIRROR)
    road.send("id-1")
    road.send("id-2")
    assert road.dispatcher.counters.snapshot() == {"orders": {"celery": 2, "copy_sent": 2}}


def test_in_shadow_the_copies_of_the_chosen_keys_are_for_the_sandbox(road: Road) -> None:
    road.flags.set("orders", Stage.SHADOW, 5_000)
    keys = [f"key-{number}" for number in range(40)]
    for number, key in enumerate(keys):
        road.send(f"id-{number}", key)
    chosen = {record.key.decode() for _, record in road.best_effort.records if SANDBOX in record.headers}
    assert chosen == {key for key in keys if bucket(road.settings.salt, key) < 5_000}
    assert 0 < len(chosen) < len(keys)
