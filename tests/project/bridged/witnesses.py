"""Tasks that write down what they see: each finds the mark of its path among its arguments."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from celery import Task, chain, group, shared_task

from bridged import sight


@shared_task(bind=True)
def seen(self: Task, *args: Any, **kwargs: Any) -> int:
    sight.keep(self, args, kwargs)
    return len(args) + len(kwargs)


@shared_task(bind=True, ignore_result=True)
def unanswered(self: Task, *args: Any, **kwargs: Any) -> int:
    sight.keep(self, args, kwargs)
    return len(args)


@shared_task(bind=True, time_limit=50, soft_time_limit=40, expires=3600)
def limited(self: Task, *args: Any) -> int:
    sight.keep(self, args, {})
    return len(args)


@shared_task(bind=True, name="bridged.witnesses.größe→✓")
def named_in_unicode(self: Task, *args: Any, **kwargs: Any) -> list[Any]:
    sight.keep(self, args, kwargs)
    return [*args[1:], *sorted(kwargs)]


@shared_task(bind=True)
def failing(self: Task, *args: Any, **kwargs: Any) -> None:
    sight.keep(self, args, kwargs)
    raise ValueError("as it should")


@shared_task(bind=True)
def told(self: Task, failed_id: str, *, mark: str) -> str:
    """Handle a failure in the older style, as a task of its own."""
    sight.keep(self, (failed_id,), {"mark": mark})
    return failed_id


@shared_task(bind=True, max_retries=2)
def retrying(self: Task, mark: str, until: int = 1, after: float | None = None, **options: Any) -> int:
    sight.keep(self, (mark, until, after), options)
    if after is not None:
        options["eta"] = datetime.now(UTC) + timedelta(seconds=after)
    if self.request.retries < until:
        raise self.retry(**options)
    return self.request.retries


@shared_task(bind=True, max_retries=2)
def retrying_otherwise(self: Task, mark: str, number: int) -> int:
    """Retry with other arguments, for another queue, with headers of its own."""
    sight.keep(self, (mark, number), {})
    if number == 0:
        raise self.retry(args=(mark, 1), countdown=0.3, headers={"again": "yes"}, shadow="otherwise")
    return number


@shared_task(bind=True, autoretry_for=(KeyError,), retry_kwargs={"max_retries": 1, "countdown": 0.1})
def autoretrying(self: Task, mark: str, until: int) -> int:
    sight.keep(self, (mark, until), {})
    if self.request.retries < until:
        raise KeyError("not yet")
    return self.request.retries


@shared_task(bind=True)
def replacing(self: Task, mark: str, by: str) -> None:
    sight.keep(self, (mark, by), {})
    raise self.replace(
        {
            "task": lambda: seen.s(mark, "instead"),
            "chain": lambda: chain(seen.s(mark, "first"), seen.s(mark, "second")),
            "group": lambda: group(seen.s(mark, "part"), seen.s(mark, "part")),
            "linked": lambda: seen.s(mark, "instead").set(link=seen.s(mark, "linked of the other")),
        }[by]()
    )


@shared_task(bind=True)
def adding(self: Task, mark: str) -> int:
    """Add one more task to the chord that this one is in."""
    sight.keep(self, (mark,), {})
    self.add_to_chord(seen.s(mark, "added").set(countdown=1))
    # What `seen` returns here too: in which order the results come is not said.
    return 2


@shared_task(bind=True)
def calling(self: Task, mark: str) -> str:
    """Dispatch a child and a child that is not to be one."""
    sight.keep(self, (mark,), {})
    seen.delay(mark, "child")
    seen.apply_async((mark, "stray"), add_to_parent=False)
    self.app.send_task("bridged.witnesses.seen", (mark, "by name"))
    return mark


@shared_task(bind=True)
def summing(self: Task, numbers: list[int], mark: str) -> int:
    sight.keep(self, (numbers, mark), {})
    return sum(numbers)
