"""Tasks that send themselves again."""

from __future__ import annotations

from typing import Any

from celery import chord

from .table import PREFIX, SPECIAL, path


@path("retry", runs=2, again=True)
def _(w: Any, mark: str) -> Any:
    return w.retrying.delay(mark, countdown=0.2)


@path("retry at once", runs=2, again=True)
def _(w: Any, mark: str) -> Any:
    # On Celery too the second attempt may end before the first one's state is stored, so neither is asked for.
    w.retrying.delay(mark, countdown=0)


@path("retry at an eta", runs=2, again=True)
def _(w: Any, mark: str) -> Any:
    return w.retrying.delay(mark, after=0.5)


@path("retry, exhausted", runs=3, again=True)
def _(w: Any, mark: str) -> Any:
    return w.retrying.delay(mark, 9, countdown=0.1)


@path("retry, a limit of its own", runs=2, again=True)
def _(w: Any, mark: str) -> Any:
    return w.retrying.delay(mark, 9, countdown=0.1, max_retries=1)


@path("retry with everything", runs=3)
def _(w: Any, mark: str) -> Any:
    return w.retrying.s(mark, countdown=0.1).apply_async(
        queue=SPECIAL,
        headers={"a": "b"},
        time_limit=50,
        soft_time_limit=40,
        expires=3600,
        shadow="alias",
        link=w.seen.s(mark, "linked"),
        stamped_headers=["run"],
        run="r-1",
    )


@path("retry by an exchange", runs=2, again=True)
def _(w: Any, mark: str) -> Any:
    return w.retrying.apply_async((mark,), {"countdown": 0.1}, exchange=PREFIX, routing_key=PREFIX)


@path("retry otherwise", runs=2, again=True)
def _(w: Any, mark: str) -> Any:
    return w.retrying_otherwise.delay(mark, 0)


@path("retry of YAML", runs=2, again=True)
def _(w: Any, mark: str) -> Any:
    return w.retrying.apply_async((mark,), {"countdown": 0.1}, serializer="yaml", compression="gzip")


@path("retry in a chord", runs=4)
def _(w: Any, mark: str) -> Any:
    return chord([w.retrying.si(mark, countdown=1), w.seen.si(mark)])(w.summing.s(mark))


@path("autoretry_for", runs=2, again=True)
def _(w: Any, mark: str) -> Any:
    return w.autoretrying.delay(mark, 1)


@path("autoretry_for, exhausted", runs=2, again=True)
def _(w: Any, mark: str) -> Any:
    return w.autoretrying.delay(mark, 9)
