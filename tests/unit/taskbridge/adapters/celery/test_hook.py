"""Every way in which Celery publishes a task, and all that the hook must leave alone."""

from __future__ import annotations

import json
import pickle
import zlib
from base64 import b64decode
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from celery import Celery, chain, chord, group, signals
from celery.app.amqp import AMQP
from kombu import Exchange, Queue
from kombu.common import Broadcast
from kombu.exceptions import EncodeError, OperationalError
from kombu.serialization import register, unregister

from taskbridge.adapters.celery.hook import BridgedAMQP, install_hook
from taskbridge.adapters.celery.options import TaskOptions
from taskbridge.cutover import Stage
from taskbridge.dispatch import Dispatcher
from taskbridge.exceptions import (
    ConfigurationError,
    MessageTooLarge,
    PublishAmbiguous,
    PublishRefused,
    StoreUnavailable,
)
from taskbridge.record import decode
from tests.documents import ROOT, codes, rows, section
from tests.unit.taskbridge.adapters.celery.conftest import Bridged


def ids(records: list[Any]) -> list[str]:
    return [decode(record.value, record.headers)[0].task_id for _, record in records]


def tasks(records: list[Any]) -> list[str]:
    return [decode(record.value, record.headers)[0].task for _, record in records]


# Installing


@pytest.mark.parametrize("instantiated", [False, True])
@pytest.mark.parametrize("published", [False, True])
def test_install_before_or_after_the_app_made_its_amqp(app: Any, instantiated: bool, published: bool) -> None:
    before = app.amqp if instantiated else None
    if published:
        app.send_task("other.work")
    bridged = Bridged(app)
    bridged.install()
    bridged.install()
    bridged.move(Stage.LIVE)
    app.send_task("orders.place", ("o-1",))
    assert len(bridged.confirmed.records) == 1
    assert before is None or app.amqp is before
    assert isinstance(app.amqp, AMQP)


def test_the_apps_own_amqp_class_stays_in_use(app: Any) -> None:
    made: list[str] = []

    class OwnAMQP(AMQP):  # type: ignore[misc]
        def _create_task_sender(self) -> Any:
            made.append("sender")
            return super()._create_task_sender()

    app.amqp_cls = OwnAMQP
    bridged = Bridged(app)
    bridged.install()
    bridged.move(Stage.LIVE)
    app.send_task("orders.place", ("o-1",))
    assert (made, len(bridged.confirmed.records)) == (["sender"], 1)


def test_other_apps_are_not_touched(bridged: Any) -> None:
    other = Celery("other", broker="memory://", set_as_current=False)
    assert not isinstance(other.amqp_cls, BridgedAMQP)
    assert type(other.amqp) is AMQP


def _no_dispatcher(app: Any) -> Dispatcher:
    raise ConfigurationError(f"no settings for {app.main}")


def test_a_pickled_app_as_a_spawned_worker_gets_it_is_bridged_too() -> None:
    app = Celery("spawned", broker="memory://", set_as_current=False)
    install_hook(app, _no_dispatcher)
    copy = pickle.loads(pickle.dumps(app))  # noqa: S301
    with pytest.raises(ConfigurationError, match="no settings for spawned"):
        copy.send_task("orders.place")


# Every way to publish


def test_delay_apply_async_and_send_task(bridged: Any) -> None:
    bridged.move(Stage.LIVE)
    task = bridged.app.tasks["orders.place"]
    sent = [
        task.delay("o-1", amount=2).id,
        task.apply_async(("o-1",), {"amount": 3}, task_id="mine").id,
        bridged.app.send_task("orders.place", kwargs={"order": "o-1"}).id,
        bridged.app.send_task("orders.unregistered", kwargs={"order": "o-1"}).id,
        task.signature(("o-1",)).apply_async().id,
    ]
    assert ids(bridged.confirmed.records) == sent
    assert sent[1] == "mine"
    assert {record.key for _, record in bridged.confirmed.records} == {b"o-1"}
    assert bridged.broker() == []


def test_canvas(bridged: Any) -> None:
    bridged.move(Stage.LIVE)
    place = bridged.app.tasks["orders.place"]
    chain(place.s("o-1"), place.si("o-2"), app=bridged.app).apply_async()
    group([place.s("o-3"), place.s("o-4")], app=bridged.app).apply_async()
    place.map(["o-5"]).apply_async()
    place.starmap([("o-6",)]).apply_async()
    place.chunks([("o-7",)], 1).apply_async()
    chord([place.s("o-8"), place.s("o-9")], place.si("o-10"), app=bridged.app).apply_async()
    names = tasks(bridged.confirmed.records)
    assert names == [*["orders.place"] * 3, "celery.map", *["celery.starmap"] * 2, *["orders.place"] * 2]
    assert {topic for topic, _ in bridged.confirmed.records} == {"taskbridge.orders"}
    assert [pending.message.task for pending in bridged.pending.delayed] in (["celery.chord_unlock"], [])
    assert bridged.broker() == []


def test_chord_unlock_belongs_to_its_callback(bridged: Any) -> None:
    bridged.move(Stage.LIVE)
    place, unlock = bridged.app.tasks["orders.place"], bridged.app.tasks["celery.chord_unlock"]
    unlock.apply_async(("group-1", place.si("o-1")), {"result": []})
    unlock.apply_async(("group-1", chain(place.si("o-1"), place.si("o-2"), app=bridged.app)), {"result": []})
    assert [topic for topic, _ in bridged.confirmed.records] == ["taskbridge.orders"] * 2


def test_a_retry_is_a_new_message_with_a_decision_of_its_own(bridged: Any) -> None:
    bridged.move(Stage.LIVE)
    task = bridged.app.tasks["orders.retry"]
    result = task.__trace__ or None
    assert result is None
    from celery.app.trace import build_tracer

    info = {"exchange": "", "routing_key": "celery", "priority": 0, "redelivered": None}
    request = {"id": "r-1", "delivery_info": info, "retries": 1, "is_eager": False}
    build_tracer(task.name, task, app=bridged.app)("r-1", ("o-1",), {}, request)
    assert ids(bridged.confirmed.records) == ["r-1"]
    assert [(row.retries, row.route) for row in bridged.rows] == [(2, "kafka")]


def test_eager_calls_stay_local(bridged: Any) -> None:
    bridged.move(Stage.LIVE)
    task = bridged.app.tasks["orders.place"]
    assert task.apply(("o-1",)).get() == "o-1"
    bridged.app.conf.task_always_eager = True
    assert task.delay("o-2").get() == "o-2"
    assert (bridged.confirmed.records, bridged.rows) == ([], [])


# What belongs to a service


def test_tasks_of_no_service_pass_by_without_a_look_at_any_flag(bridged: Any) -> None:
    bridged.move(Stage.LIVE)
    bridged.app.send_task("other.work", task_id="w-1")
    assert [message["headers"]["id"] for message in bridged.broker()] == ["w-1"]
    assert bridged.flags.reads == 0


def test_by_queue_and_by_declaration(bridged: Any) -> None:
    bridged.move(Stage.LIVE)

    @bridged.app.task(name="other.declared", shared=False, bridge=TaskOptions(service="orders", key="customer"))
    def declared(number: int, customer: str = "", /) -> None:
        return None

    bridged.app.send_task("other.work", queue="mails")
    bridged.app.send_task("other.work", exchange="shared", routing_key="mails")
    declared.delay(1, "c-7")
    assert [(topic, record.key) for topic, record in bridged.confirmed.records[2:]] == [("taskbridge.orders", b"c-7")]
    assert [topic for topic, _ in bridged.confirmed.records[:2]] == ["taskbridge.mails"] * 2


def test_names_and_keys_in_unicode(bridged: Any) -> None:
    bridged.move(Stage.LIVE)

    @bridged.app.task(name="orders.größe→", shared=False, bridge=TaskOptions(key="größe"))
    def named(größe: str) -> None:  # noqa: PLC2401 - that is the point
        return None

    named.delay(größe="ü→")
    [(_, record)] = bridged.confirmed.records
    assert record.key == "ü→".encode()
    assert decode(record.value, record.headers)[0].task == "orders.größe→"


def test_a_declared_service_that_does_not_exist_is_said_at_dispatch(bridged: Any) -> None:
    @bridged.app.task(name="other.lost", shared=False, bridge=TaskOptions(service="nowhere"))
    def lost() -> None:
        return None

    with pytest.raises(ConfigurationError, match=r"task other.lost declares the service 'nowhere'.*mails, orders"):
        lost.delay()


# What Celery does around a publish


@pytest.fixture
def heard() -> Iterator[list[tuple[str, Any]]]:
    heard: list[tuple[str, Any]] = []

    def before(headers: dict[str, Any], body: Any, **_: Any) -> None:
        headers["tenant"] = "acme"
        headers["traceparent"] = "00-aa-bb-01"
        body[1]["amount"] = 99
        heard.append(("before", dict(headers)))

    def after(headers: dict[str, Any], **_: Any) -> None:
        heard.append(("after", dict(headers)))

    signals.before_task_publish.connect(before)
    signals.after_task_publish.connect(after)
    yield heard
    signals.before_task_publish.disconnect(before)
    signals.after_task_publish.disconnect(after)


@pytest.mark.parametrize("stage", [Stage.MIRROR, Stage.LIVE])
def test_signals_are_sent_once_and_their_changes_survive(bridged: Any, heard: list[Any], stage: Stage) -> None:
    bridged.move(stage)
    bridged.app.tasks["orders.place"].delay("o-1")
    records = bridged.confirmed.records or bridged.best_effort.records
    [(_, record)] = records
    message, rest = decode(record.value, record.headers)
    assert message.decoded_headers()["tenant"] == "acme"
    assert rest["traceparent"] == "00-aa-bb-01"
    assert json.loads(message.body)[1] == {"amount": 99}
    assert [name for name, _ in heard] == ["before", "after"]
    if stage is Stage.MIRROR:
        [sent] = bridged.broker()
        assert sent["headers"] == message.decoded_headers()


def test_task_sent_events_go_to_celerys_broker(bridged: Any) -> None:
    bridged.move(Stage.LIVE)
    bridged.app.conf.task_send_sent_event = True
    with bridged.app.connection_for_read() as connection:
        receiver = bridged.app.events.Receiver(connection, handlers={})
        receiver.queue(connection).declare()
        bridged.app.tasks["orders.place"].delay("o-1")
        [event] = bridged.broker(receiver.queue.name)
    assert json.loads(b64decode(event["body"]))["type"] == "task-sent"
    assert len(bridged.confirmed.records) == 1


@pytest.fixture
def counted() -> Iterator[list[object]]:
    calls: list[object] = []

    def encode(value: object) -> str:
        calls.append(value)
        return json.dumps(value)

    register("counted", encode, json.loads, content_type="application/x-counted", content_encoding="utf-8")
    yield calls
    unregister("counted")


@pytest.mark.parametrize("stage", list(Stage))
def test_the_body_is_serialized_once(bridged: Any, counted: list[object], stage: Stage) -> None:
    bridged.move(stage)
    bridged.app.tasks["orders.place"].apply_async(("o-1",), serializer="counted")
    assert len(counted) == 1


def test_arguments_that_do_not_serialize_are_celerys_error_and_leave_nothing(bridged: Any) -> None:
    bridged.move(Stage.MIRROR)
    with pytest.raises(EncodeError):
        bridged.app.tasks["orders.place"].delay(object())
    assert (bridged.best_effort.records, bridged.rows, bridged.broker()) == ([], [], [])


# Errors


def test_a_publish_that_failed_by_every_road_is_kombus_operational_error(bridged: Any) -> None:
    bridged.move(Stage.LIVE)
    bridged.confirmed.error = PublishAmbiguous("timed out")
    bridged.pending.error = StoreUnavailable("the database is away")
    with pytest.raises(OperationalError, match="the database is away"):
        bridged.app.tasks["orders.place"].delay("o-1")


def test_a_refused_record_is_in_celerys_queue_under_the_same_id(bridged: Any) -> None:
    bridged.move(Stage.LIVE)
    bridged.confirmed.error = PublishRefused("too large")
    result = bridged.app.tasks["orders.place"].delay("o-1")
    assert [message["headers"]["id"] for message in bridged.broker()] == [result.id]


@pytest.mark.parametrize("stage", [Stage.LIVE, Stage.COMPLETE])
@pytest.mark.parametrize("options", [{}, {"countdown": 60}, {"retry": True}])
def test_a_message_that_no_record_can_hold_is_refused_once_and_sent_nowhere(
    bridged: Any, stage: Stage, options: dict[str, Any]
) -> None:
    bridged.move(stage)
    tried: list[object] = []
    signals.before_task_publish.connect(lambda **_: tried.append(1), weak=False, dispatch_uid="tried")
    try:
        with pytest.raises(
            ValueError, match=r"task orders.place\[big\] .*\"max_message_bytes\"\], 1,000,000; "
        ) as raised:
            bridged.app.tasks["orders.place"].apply_async(("x" * 1_000_000,), task_id="big", **options)
    finally:
        signals.before_task_publish.disconnect(dispatch_uid="tried")
    assert isinstance(raised.value, MessageTooLarge)
    assert tried == [1]
    assert (bridged.confirmed.records, bridged.pending.delayed, bridged.pending.outboxed) == ([], [], [])
    assert (bridged.broker(), bridged.rows) == ([], [])


def test_size_is_no_matter_where_celery_runs_the_task(bridged: Any) -> None:
    bridged.move(Stage.MIRROR)
    bridged.best_effort.room = 0
    bridged.app.tasks["orders.place"].delay("x" * 1_000_000)
    assert [row.copy for row in bridged.rows] == ["lost"]
    assert len(bridged.broker()) == 1


# What stays on Celery, message by message


FALLBACKS: list[tuple[dict[str, Any], str]] = [
    ({"priority": 5}, "unsupported:priority"),
    ({"priority": 0}, ""),
    ({"serializer": "pickle"}, "unsupported:pickle"),
    ({"serializer": "pickle", "compression": "gzip"}, "unsupported:pickle"),
    ({"headers": {"odd": object}}, "unsupported:headers"),
    ({"eta": "tomorrow"}, "unsupported:eta"),
    ({"queue": Broadcast("everyone")}, "unsupported:fanout"),
    ({"queue": Queue("all", Exchange("all", "fanout"))}, "unsupported:fanout"),
]


@pytest.mark.parametrize(("options", "fallback"), FALLBACKS)
def test_what_our_worker_lacks(bridged: Any, options: dict[str, Any], fallback: str) -> None:
    bridged.move(Stage.LIVE)
    bridged.app.tasks["orders.place"].apply_async(("o-1",), **options)
    assert [row.fallback for row in bridged.rows] == [fallback]
    assert len(bridged.confirmed.records) == (0 if fallback else 1)
    assert bridged.dispatcher.counters.get("orders", "unsupported") == (1 if fallback else 0)
    assert bridged.dispatcher.counters.get("orders", "celery") == (1 if fallback else 0)


def test_each_of_them_is_documented() -> None:
    table = rows(section(ROOT / "docs" / "guarantees.md", "What is refused, or stays on Celery"), "feature")
    known = {fallback.removeprefix("unsupported:") for _, fallback in FALLBACKS if fallback}
    assert {codes(row[0])[0] for row in table} == known


@pytest.mark.parametrize(
    "options", [{"priority": 5}, {"serializer": "pickle"}, {"eta": "tomorrow"}, {"queue": Broadcast("everyone")}]
)
def test_what_only_celerys_worker_can_do_is_said_once_the_service_is_complete(
    bridged: Any, options: dict[str, Any]
) -> None:
    bridged.move(Stage.COMPLETE)
    with pytest.raises(OperationalError, match=r"only Celery's worker can do .* service 'orders' is complete"):
        bridged.app.tasks["orders.place"].apply_async(("o-1",), **options)
    assert (bridged.confirmed.records, bridged.rows, bridged.broker()) == ([], [], [])


def test_a_broadcast_reaches_every_worker_which_only_celery_can(bridged: Any) -> None:
    bridged.move(Stage.LIVE)
    bridged.app.amqp.queues.add(Broadcast("everyone"))
    bridged.app.send_task("orders.place", ("o-1",), queue="everyone")
    assert [row.fallback for row in bridged.rows] == ["unsupported:fanout"]


# Time


@pytest.mark.parametrize("protocol", [1, 2])
def test_countdown_and_eta_wait_with_the_bridge(bridged: Any, protocol: int) -> None:
    bridged.app.conf.task_protocol = protocol
    bridged.move(Stage.LIVE)
    task = bridged.app.tasks["orders.place"]
    eta = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    task.apply_async(("o-1",), eta=eta)
    task.apply_async(("o-1",), eta=eta.replace(tzinfo=None))
    began = datetime.now(UTC)
    task.apply_async(("o-1",), countdown=10)
    task.apply_async(("o-1",), eta=datetime.now(UTC) - timedelta(seconds=1))
    dues = [pending.due for pending in bridged.pending.delayed]
    assert dues[:2] == [eta, eta]
    assert 10 <= (dues[2] - began).total_seconds() < 70
    assert len(bridged.confirmed.records) == 1


def test_protocol_1_keeps_identity_in_the_body(bridged: Any) -> None:
    bridged.app.conf.task_protocol = 1
    bridged.move(Stage.LIVE)
    bridged.app.tasks["orders.place"].apply_async(("o-1",), task_id="p1", retries=2)
    [(_, record)] = bridged.confirmed.records
    message, _ = decode(record.value, record.headers)
    assert (message.task_id, message.decoded_headers()) == ("p1", {})
    assert [(row.id, row.retries, row.key) for row in bridged.rows] == [("p1", 2, "o-1")]


# What a record holds


def test_properties_are_those_the_broker_would_have_had(bridged: Any) -> None:
    bridged.move(Stage.MIRROR)
    task = bridged.app.tasks["orders.place"]
    task.apply_async(("o-1",), expires=60, reply_to="r")
    task.apply_async(("o-1",), reply_to="r", delivery_mode="transient")
    for (_, record), sent in zip(bridged.best_effort.records, bridged.broker(), strict=True):
        properties = decode(record.value, record.headers)[0].decoded_properties()
        broker = {
            name: value
            for name, value in sent["properties"].items()
            if name not in {"delivery_tag", "body_encoding", "priority"}
        }
        assert properties == broker


def test_compressed_bodies_go_as_they_are(bridged: Any) -> None:
    bridged.move(Stage.LIVE)
    bridged.app.tasks["orders.place"].apply_async(("o-1",), compression="zlib")
    [(_, record)] = bridged.confirmed.records
    message, _ = decode(record.value, record.headers)
    assert message.decoded_headers()["compression"] == "application/x-gzip"
    assert b"o-1" in zlib.decompress(message.body)
