"""Features and findings, task by task."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from taskbridge.scan import BEHAVIOURS, App, Judged, Level, Result
from taskbridge.scan.judge import _OF_CALLS, _OF_OPTIONS
from taskbridge.scan.survey import OWN_METHODS

One = Callable[..., Judged]
Scan = Callable[..., Result]


def declared(options: str = "", body: str = "return order_id") -> str:
    return f"@shared_task({options})\ndef work(order_id):\n    {body}\n"


@pytest.mark.parametrize(
    ("options", "feature"),
    [
        ("rate_limit='5/s'", "rate_limit"),
        ("priority=3", "priority"),
        ("serializer='pickle'", "pickle"),
        ("autoretry_for=(KeyError,)", "retry"),
        ("max_retries=9", "retry"),
        ("reject_on_worker_lost=True", "reject_on_worker_lost"),
        ("", "acks_early"),
    ],
)
def test_options_that_matter_are_found(one: One, options: str, feature: str) -> None:
    item = one(declared(options))
    assert feature in [finding.feature for finding in item.findings]
    assert feature in item.features


@pytest.mark.parametrize(
    ("options", "feature"),
    [
        ("acks_late=True", "acks_late"),
        ("bind=True", "bind"),
        ("time_limit=5", "time_limit"),
        ("soft_time_limit=5", "soft_time_limit"),
        ("ignore_result=True", "ignore_result"),
        ("base=Mine", "base_class"),
        ("throws=(KeyError,)", "throws"),
        ("serializer='yaml'", "serializer"),
    ],
)
def test_options_that_stay_the_same_are_features_only(one: One, options: str, feature: str) -> None:
    item = one(declared(f"{options}, acks_late=True" if "acks_late" not in options else options))
    assert feature in item.features
    assert item.findings == ()


@pytest.mark.parametrize(
    ("body", "feature"),
    [
        ("raise self.retry(countdown=5)", "retry"),
        ("return self.replace(other.s())", "replace"),
        ("self.add_to_chord(other.s())", "add_to_chord"),
        ("self.update_state(state='X')", "update_state"),
        ("chain(other.s(), other.s())()", "canvas"),
        ("current_app.control.revoke(order_id)", "control"),
        ("from celery.exceptions import Reject; raise Reject('x')", "reject"),
    ],
)
def test_what_a_body_uses(one: One, body: str, feature: str) -> None:
    other = "@shared_task\ndef other(): ...\n"
    item = one(f"@shared_task(bind=True, acks_late=True)\ndef work(self, order_id):\n    {body}\n{other}")
    assert feature in item.features
    differs = BEHAVIOURS[feature].level is not Level.SAME
    assert (feature in [finding.feature for finding in item.findings]) == differs


@pytest.mark.parametrize(
    ("call", "features"),
    [
        ("work.apply_async((1,), countdown=5)", {"eta"}),
        ("work.apply_async(args=(1,), eta=when, expires=60)", {"eta", "expires"}),
        ("work.apply_async((1,), priority=9)", {"priority_option"}),
        ("work.apply_async((1,), queue='q', routing_key='r')", {"queue_option"}),
        ("work.apply_async((1,), producer=p, retry=False)", {"publish_option"}),
        ("work.apply_async((1,), link=other.s(), task_id='x', headers={})", {"link", "task_id", "headers"}),
        ("work.s(1).set(priority=3)", {"priority_option"}),
        ("work.apply((1,))", {"apply"}),
        ("work.chunks([(1,)], 10)()", {"canvas"}),
        ("current_app.send_task('shop.tasks.work', (1,))", {"by_name"}),
        ("current_app.send_task(NAME, kwargs={'order_id': 1})", {"by_name"}),
        ("transaction.on_commit(work.delay)", {"on_commit"}),
        ("work.delay_on_commit(1)", {"on_commit"}),
    ],
)
def test_what_calls_use(one: One, call: str, features: set[str]) -> None:
    item = one(
        f"NAME = 'shop.tasks.work'\n@shared_task\ndef other(): ...\n"
        f"{declared('acks_late=True')}\ndef send(when, p):\n    {call}\n"
    )
    assert set(item.features) - {"acks_late"} == features
    expected = {name for name in features if BEHAVIOURS[name].level is not Level.SAME}
    assert {finding.feature for finding in item.findings} == expected


def app(**options: Any) -> App:
    values: dict[str, Any] = {
        "name": "shop",
        "tasks": (),
        "broker": "redis",
        "result_backend": "redis",
        "default_queue": "celery",
        "visibility_timeout": 3600.0,
    }
    return App(**(values | options))


@pytest.mark.parametrize(
    ("wait", "timeout", "found"),
    [
        ("7200", 3600.0, True),
        ("7200", 43_200.0, False),
        ("7200", None, False),
        ("60", 3600.0, False),
        ("n", 3600.0, False),
    ],
)
def test_an_eta_beyond_the_visibility_timeout(scan: Scan, wait: str, timeout: float | None, found: bool) -> None:
    text = f"{declared('acks_late=True')}\ndef send(n):\n    work.apply_async((1,), countdown={wait})\n"
    [item] = scan(text, app=app(visibility_timeout=timeout)).tasks
    assert ("long_eta" in [finding.feature for finding in item.findings]) == found


def test_durable_atomic_is_found_where_it_is_called(one: One) -> None:
    services = (
        "from django.db import transaction\ndef pay():\n    with transaction.atomic(durable=True):\n        pass\n"
    )
    item = one(
        "from shop import services\n" + declared("acks_late=True", "services.pay()"), {"shop/services.py": services}
    )
    [finding] = item.findings
    assert finding.feature == "durable_atomic"
    assert str(finding.place).endswith("shop/services.py:3")


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("from kombu import Producer, Connection\np = Producer(c)\np.publish({}, routing_key='q')\n", 1),
        (
            "from kombu import Connection\nwith Connection('x').Producer() as p:\n    p.publish(1)\n    p.publish(2)\n",
            2,
        ),
        ("with app.producer_or_acquire() as producer:\n    producer.publish({})\n", 1),
        ("with app.amqp.producer_pool.acquire() as lent:\n    lent.publish({})\n", 1),
        ("from kombu.pools import producers\nwith producers[c].acquire(block=True) as p:\n    p.publish({})\n", 1),
        ("app.amqp.Producer(channel)\n", 1),
        ("queue = connection.SimpleQueue('x')\nqueue.put(1)\n", 1),
        ("channel.basic_publish('', 'q', b'')\n", 1),
        ("blog.publish()\nqueue.put(1)\n", 0),
    ],
)
def test_publishing_past_the_bridge_is_named(scan: Scan, text: str, count: int) -> None:
    result = scan(declared("acks_late=True"), {"shop/direct.py": text})
    past = [finding for finding in result.findings if finding.feature == "past_bridge"]
    assert len(past) == count
    assert all(finding.place.file.endswith("shop/direct.py") for finding in past)


def test_names_that_nothing_registers_and_what_belongs_to_celerys_worker(scan: Scan) -> None:
    result = scan(
        declared("acks_late=True")
        + "def stop(app):\n    app.control.revoke('x')\n    Rule.objects.revoke('x')\n"
        + "def send(app):\n    app.send_task('other.system.task')\n    app.send_task('celery.backend_cleanup')\n",
        {"shop/worker.py": "from celery.signals import worker_ready, task_prerun\napp.steps['worker'].add(X)\n"},
    )
    assert [finding.feature for finding in result.findings] == [
        "control",
        "unregistered",
        "worker_signal",
        "worker_step",
    ]
    assert "other.system.task" in result.findings[1].text


@pytest.mark.parametrize(
    ("code", "mode"),
    [
        ("def send():\n    work.delay(1)", "confirm"),
        ("def send():\n    for n in range(9):\n        work.delay(n)", "barrier"),
        ("def send():\n    [work.delay(n) for n in range(9)]", "barrier"),
        ("def send():\n    group(work.s(n) for n in range(9))()", "barrier"),
        ("def send():\n    with transaction.atomic():\n        work.delay(1)", "outbox"),
        ("@transaction.atomic\ndef send():\n    work.delay(1)", "outbox"),
        ("def send():\n    transaction.on_commit(lambda: work.delay(1))", "outbox"),
        ("def send():\n    transaction.on_commit(partial(after, 1))\ndef after(n):\n    work.delay(n)", "outbox"),
        ("def send():\n    with transaction.atomic():\n        inner()\ndef inner():\n    work.delay(1)", "outbox"),
        ("def send():\n    for n in items(work.delay(1)):\n        pass", "confirm"),
        ("", "confirm"),
    ],
)
def test_the_publish_mode_follows_from_where_it_is_dispatched(one: One, code: str, mode: str) -> None:
    item = one(f"{declared()}\n{code}\n")
    assert item.publish.mode == mode
    assert (item.publish.place is None) == (mode == "confirm")
    assert len(item.publish.reason) > 20


def test_every_feature_that_is_found_is_in_the_table() -> None:
    named = {*_OF_OPTIONS.values(), *_OF_CALLS.values(), *OWN_METHODS.values()}
    assert named <= set(BEHAVIOURS)
    assert all(behaviour.sentence and not behaviour.sentence.endswith(".") for behaviour in BEHAVIOURS.values())
