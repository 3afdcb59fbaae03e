"""Celery's broker receives byte for byte what plain Celery would have sent."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from celery import Celery
from kombu.transport.memory import Channel, Transport

from taskbridge.adapters.celery.hook import install_hook
from taskbridge.adapters.celery.resend import CeleryResender
from taskbridge.cutover import FlagCache, Stage
from taskbridge.dispatch import Dispatcher
from taskbridge.exceptions import PublishRefused
from taskbridge.record import decode
from taskbridge.settings import ServiceSettings
from taskbridge.testing import FakeFlags, FakePending, FakePublisher, RecordingObserver, settings

PINNED: dict[str, Any] = {"task_id": "id-1", "reply_to": "reply", "root_id": "root", "origin": "gen1@here"}

CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "types": {
        "args": (UUID(int=7), Decimal("1.10"), datetime(2030, 1, 2, tzinfo=UTC), b"\xff\x00", {"é": "\u2028"}),
        "kwargs": {"none": None, "nan": 1e300, "deep": [[{}]]},
    },
    "zlib": {"compression": "zlib"},
    "gzip": {"compression": "gzip"},
    "bzip2": {"compression": "bzip2"},
    "YAML": {"serializer": "yaml", "args": (1, "ü", b"\xff", datetime(2030, 1, 2, tzinfo=UTC))},
    "msgpack": {"serializer": "msgpack", "args": (1, "ü", b"\xff", 2**63)},
    "compressed YAML": {"serializer": "yaml", "compression": "bzip2"},
    "compressed msgpack": {"serializer": "msgpack", "compression": "gzip"},
    "headers": {"headers": {"tenant": "acme", "nested": {"a": [1, 2]}}},
    "headers of many types": {"headers": {"amount": Decimal("1.10"), "key": UUID(int=7), "größe": "ü"}},
    "properties": {"app_id": "shop", "message_id": "m-1"},
    "unicode": {"args": ("ü",), "kwargs": {"größe": "→"}, "shadow": "größe"},
    "priority": {"priority": 7},
    "expires": {"expires": 12.345},
    "eta": {"eta": datetime(2999, 1, 1, tzinfo=UTC)},
    "queue": {"queue": "special"},
    "anonymous exchange": {"exchange": "", "routing_key": "special"},
    "pickle": {"serializer": "pickle"},
    "transient": {"delivery_mode": 1},
    "limits": {"time_limit": 9, "soft_time_limit": 5},
    "stamps": {"stamped_headers": ["run"], "run": "r-1"},
    "links": {"link": [], "link_error": []},
}


class Captured:
    def __init__(self) -> None:
        self.app = Celery("contract", broker="memory://", set_as_current=False)
        self.app.now = lambda: datetime(2030, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
        self.raw: list[str] = []

    def take(self) -> str:
        [raw] = self.raw
        self.raw.clear()
        return raw


@pytest.fixture
def _queues() -> Iterator[None]:
    yield
    Transport.global_state.clear()
    Channel.queues.clear()


@pytest.fixture
def capture(monkeypatch: pytest.MonkeyPatch, _queues: None) -> Captured:
    captured = Captured()
    put = Channel._put

    def keep(self: Any, queue: str, message: dict[str, Any], **options: Any) -> None:
        # As transports over text do, in order and with all types told apart.
        message["properties"]["delivery_tag"] = "pinned"
        captured.raw.append(repr((queue, message)))
        put(self, queue, message, **options)

    monkeypatch.setattr(Channel, "_put", keep)
    return captured


def bridge(capture: Captured) -> tuple[FakeFlags, FakePublisher, FakePublisher]:
    flags, confirmed, copies = FakeFlags(), FakePublisher(), FakePublisher()
    dispatcher = Dispatcher(
        settings(ServiceSettings("orders", tasks=("orders.*",))),
        FlagCache(flags, {"orders": Stage.OFF}, time.monotonic, max_age=0.0),
        confirmed,
        copies,
        FakePending(),
        RecordingObserver(),
    )
    install_hook(capture.app, lambda _: dispatcher)
    return flags, confirmed, copies


def send(capture: Captured, case: dict[str, Any]) -> str:
    options = dict(case)
    args, kwargs = options.pop("args", (1, "two")), options.pop("kwargs", {"three": 3})
    capture.app.send_task("orders.place", args, kwargs, **PINNED, **options)
    return capture.take()


# Task protocol 1 has no stamps.
@pytest.mark.parametrize(
    ("name", "protocol"), [(name, p) for name in CASES for p in (1, 2) if (name, p) != ("stamps", 1)]
)
def test_bridged_and_plain_are_the_same(capture: Captured, name: str, protocol: int) -> None:
    capture.app.conf.task_protocol = protocol
    case = CASES[name]
    plain = send(capture, case)
    flags, confirmed, copies = bridge(capture)
    assert send(capture, case) == plain
    flags.set("orders", Stage.MIRROR)
    assert send(capture, case) == plain
    assert len(copies.records) == 1
    flags.set("orders", Stage.LIVE, 0)
    assert send(capture, case) == plain
    flags.set("orders", Stage.LIVE, 10_000)
    confirmed.error = PublishRefused("refused")
    if name != "eta":
        assert send(capture, case) == plain


@pytest.mark.parametrize("name", [name for name in CASES if name != "pickle"])
def test_what_waited_is_sent_again_as_it_would_have_been(capture: Captured, name: str) -> None:
    flags, _, copies = bridge(capture)
    flags.set("orders", Stage.MIRROR)
    sent = send(capture, CASES[name])
    [(_, record)] = copies.records
    message, _ = decode(record.value, record.headers)
    CeleryResender(capture.app).publish(message)
    resent = capture.take()
    assert _comparable(resent) == _comparable(sent)


def _comparable(raw: str) -> Any:
    queue, message = eval(raw, {"datetime": __import__("datetime"), "Decimal": Decimal, "UUID": UUID})  # noqa: S307 - a repr of our own
    return queue, json.loads(json.dumps(message, sort_keys=True, default=repr))
