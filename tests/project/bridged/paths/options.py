"""`apply_async` with each of its options."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

from kombu import Exchange, Queue

from .table import PREFIX, SPECIAL, path

EAST = timezone(timedelta(hours=5, minutes=30))
LONG_AGO = datetime(2020, 1, 2, 3, 4, 5, tzinfo=UTC)
FAR_OFF = datetime(2099, 1, 2, 3, 4, 5, 678, tzinfo=UTC)


def soon() -> datetime:
    return datetime.now(UTC) + timedelta(seconds=0.5)


Options = dict[str, Any] | Callable[[], dict[str, Any]]

BOTH_PROTOCOLS: dict[str, Options] = {
    "no options": {},
    "countdown": {"countdown": 0.5},
    "countdown of 0": {"countdown": 0},
    "eta": lambda: {"eta": soon()},
    "eta in another zone": lambda: {"eta": soon().astimezone(EAST)},
    "eta without a zone": lambda: {"eta": soon().replace(tzinfo=None)},
    "eta in the past": {"eta": LONG_AGO},
    "eta as text": {"eta": "2020-01-02T03:04:05Z"},
    "expires in seconds": {"expires": 3600},
    "expires at a time": {"expires": FAR_OFF},
    "expires in another zone": {"expires": FAR_OFF.astimezone(EAST)},
    "expires as text": {"expires": FAR_OFF.isoformat()},
    "queue": {"queue": SPECIAL},
    "queue as an object": {"queue": Queue(SPECIAL, Exchange(SPECIAL), SPECIAL)},
    "exchange and routing key": {"exchange": PREFIX, "routing_key": PREFIX},
    "the anonymous exchange": {"exchange": "", "routing_key": PREFIX},
    "a routing key alone": {"routing_key": "nobody"},
    "YAML": {"serializer": "yaml"},
    "msgpack": {"serializer": "msgpack"},
    "gzip": {"compression": "gzip"},
    "bzip2": {"compression": "bzip2"},
    "zlib": {"compression": "zlib"},
    "compressed YAML": {"serializer": "yaml", "compression": "bzip2"},
    "compressed msgpack": {"serializer": "msgpack", "compression": "gzip"},
    "headers": {"headers": {"color": "blue", "größe": {"a": [1, "ü", None]}}},
    "headers of many types": {"headers": {"amount": Decimal("1.10"), "day": date(2020, 1, 2), "key": UUID(int=7)}},
    "task id": lambda: {"task_id": f"mine/ü {uuid4()}"},
    "group id and index": {"group_id": "group-1", "group_index": 3},
    "reply_to": {"reply_to": "mailbox"},
    "correlation_id": {"correlation_id": "another"},
    "time limits": {"time_limit": 50.5, "soft_time_limit": 40},
    "publish retries": {"retry": True, "retry_policy": {"max_retries": 1, "interval_start": 0, "interval_step": 0}},
    "no publish retries": {"retry": False},
    "a later attempt": {"retries": 2},
    "transient": {"delivery_mode": "transient"},
    "properties of its own": {"app_id": "shop", "message_id": "m-1", "expiration": 3600.5},
    "no child": {"add_to_parent": False},
    "priority 0": {"priority": 0},
}

PROTOCOL_2: dict[str, Options] = {
    "shadow": {"shadow": "alias ü"},
    "root and parent": {"root_id": "root-1", "parent_id": "parent-1"},
    "argsrepr and kwargsrepr": {"argsrepr": "(<hidden>)", "kwargsrepr": "{<ü>}"},
    "nesting": {"replaced_task_nesting": 2},
    "stamped": {"stamped_headers": ["run", "many"], "run": "r-1", "many": ["a", "b"]},
    "origin": {"origin": "elsewhere"},
    "ignore_result=False": {"ignore_result": False},
}


def _apply_async(options: Options) -> Callable[[Any, str], Any]:
    return lambda w, mark: w.seen.apply_async(
        (mark, 1, "ü"), {"größe": [1.5, None]}, **(options() if callable(options) else options)
    )


for _name, _options in BOTH_PROTOCOLS.items():
    path(f"apply_async: {_name}", again=True)(_apply_async(_options))
for _name, _options in PROTOCOL_2.items():
    path(f"apply_async: {_name}")(_apply_async(_options))


# Options that change how many tasks run, or where


@path("apply_async: priority", side="celery")
def _(w: Any, mark: str) -> Any:
    return w.seen.apply_async((mark,), priority=5)


@path("apply_async: pickle", side="celery")
def _(w: Any, mark: str) -> Any:
    return w.seen.apply_async((mark, 1), serializer="pickle")


@path("apply_async: expired", runs=0, again=True)
def _(w: Any, mark: str) -> Any:
    return w.seen.apply_async((mark,), expires=-5)


@path("apply_async: expires before its eta", runs=0, again=True)
def _(w: Any, mark: str) -> Any:
    return w.seen.apply_async((mark,), countdown=1, expires=0.5)


@path("apply_async: ignore_result", again=True)
def _(w: Any, mark: str) -> Any:
    w.seen.apply_async((mark,), ignore_result=True)


@path("a task that ignores its result", again=True)
def _(w: Any, mark: str) -> Any:
    w.unanswered.delay(mark)


@path("a task with limits of its own", again=True)
def _(w: Any, mark: str) -> Any:
    return w.limited.delay(mark)


@path("apply_async: link", runs=3, again=True)
def _(w: Any, mark: str) -> Any:
    return w.seen.apply_async((mark,), link=[w.seen.s(mark, "linked"), w.seen.si(mark, "too").set(countdown=0.2)])


@path("apply_async: link_error", runs=2, again=True)
def _(w: Any, mark: str) -> Any:
    return w.failing.apply_async((mark,), link_error=w.seen.s(mark, "failed"))


@path("apply_async: link_error of the older style", runs=2, again=True)
def _(w: Any, mark: str) -> Any:
    return w.failing.apply_async((mark,), link_error=w.told.s(mark=mark))


@path("apply_async: producer", again=True)
def _(w: Any, mark: str) -> Any:
    with w.seen.app.producer_or_acquire() as producer:
        return w.seen.apply_async((mark,), producer=producer)


@path("apply_async: connection", again=True)
def _(w: Any, mark: str) -> Any:
    with w.seen.app.connection_for_write() as connection:
        return w.seen.apply_async((mark,), connection=connection)
