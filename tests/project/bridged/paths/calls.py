"""The other ways of calling one task."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

from .table import SPECIAL, path

TYPES = [
    *(UUID(int=7), Decimal("1.10"), datetime(2020, 1, 2, 3, 4, tzinfo=UTC), datetime(2020, 1, 2), date(2020, 1, 2)),  # noqa: DTZ001
    *(time(3, 4), b"\xff\x00", b"text", 2**70, 0.1, -0.0, True, None, "\u2028 ü 𝄞 \x00", [], {}, [[{}]], (1, (2,))),
    {"uuid": UUID(int=8), "deep": [{"er": Decimal(1)}], "__type__": "mine"},
]


@path("delay", again=True)
def _(w: Any, mark: str) -> Any:
    return w.seen.delay(mark, 1, two=2)


@path("send_task", again=True)
def _(w: Any, mark: str) -> Any:
    return w.seen.app.send_task("bridged.witnesses.seen", (mark, 1), {"two": 2}, headers={"a": "b"})


@path("send_task by a process that has not registered the task", again=True)
def _(w: Any, mark: str) -> Any:
    return w.stranger().send_task("bridged.witnesses.limited", (mark,), queue=SPECIAL)


@path("an unknown task", runs=0, again=True)
def _(w: Any, mark: str) -> Any:
    return w.seen.app.send_task("bridged.witnesses.of_another_version", (mark,))


@path("a unicode name", again=True)
def _(w: Any, mark: str) -> Any:
    # Its key in Kafka is the `größe` too, by the project's settings.
    return w.named_in_unicode.delay(mark, "é", größe="ü→")


for _serializer in ("json", "yaml", "msgpack"):
    # What each serializer can express; JSON as kombu extends it.
    _values = TYPES if _serializer == "json" else ["ü", 2**40, 0.1, True, None, [], {"a": [{}]}]

    @path(f"types of {_serializer}", again=True)
    def _(w: Any, mark: str, values: Any = _values, serializer: str = _serializer) -> Any:
        return w.seen.apply_async((mark, *values), {"values": values}, serializer=serializer)


@path("bytes in msgpack", again=True)
def _(w: Any, mark: str) -> Any:
    return w.seen.apply_async((mark, b"\xff\x00"), {"raw": b"text"}, serializer="msgpack")


@path("dates in YAML", again=True)
def _(w: Any, mark: str) -> Any:
    return w.seen.apply_async((mark, datetime(2020, 1, 2, 3, tzinfo=UTC), date(2020, 1, 2), b"\xff"), serializer="yaml")


@path("dispatched by a task", runs=4)
def _(w: Any, mark: str) -> Any:
    return w.calling.delay(mark)


@path("delay_on_commit", again=True)
def _(w: Any, mark: str) -> Any:
    with w.atomic():
        w.unanswered.delay_on_commit(mark, 1)


@path("apply_async_on_commit", again=True)
def _(w: Any, mark: str) -> Any:
    with w.atomic():
        w.unanswered.apply_async_on_commit((mark, 1), countdown=0.2, headers={"a": "b"})


@path("delay_on_commit, rolled back", runs=0)
def _(w: Any, mark: str) -> Any:
    with w.rolled_back():
        w.unanswered.delay_on_commit(mark, 1)


@path("beat")
def _(w: Any, mark: str) -> Any:
    w.beat(mark, args=[mark, 1], kwargs={"two": 2}, options={"headers": {"a": "b"}, "expires": 3600, "queue": SPECIAL})
