"""Tasks of every temper."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Any

from celery import Task, shared_task
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded

from bridged import journal


@shared_task
def add(a: int, b: int) -> int:
    return a + b


@shared_task
def total(numbers: list[int]) -> int:
    return sum(numbers)


@shared_task(ignore_result=True)
def nothing() -> None:
    return None


@shared_task
def echo(value: Any) -> str:
    return f"{type(value).__name__}:{value}"


@shared_task
def changes_its_arguments(values: list[int]) -> list[int]:
    values.append(len(values))
    return values


@shared_task
def keyed(key: str, number: int) -> int:
    return number


@shared_task
def naps(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


@shared_task
def fails(text: str = "as it should") -> None:
    raise ValueError(text)


@shared_task(bind=True, max_retries=5)
def flaky(self: Task, until: int) -> int:
    if self.request.retries < until:
        raise self.retry(countdown=0.1, exc=ValueError("not yet"))
    return self.request.retries


@shared_task(bind=True, autoretry_for=(ConnectionError,), retry_backoff=0.1, retry_jitter=False, max_retries=3)
def stubborn(self: Task, until: int) -> int:
    if self.request.retries < until:
        raise ConnectionError("not yet")
    return self.request.retries


@shared_task(bind=True, max_retries=1)
def gives_up(self: Task) -> None:
    raise self.retry(countdown=0.1, exc=KeyError("never"))


@shared_task(bind=True)
def context(self: Task, *args: Any, **kwargs: Any) -> dict[str, Any]:
    request = self.request
    return {
        "args": list(request.args),
        "kwargs": request.kwargs,
        "id": request.id == request.correlation_id,
        "root": request.root_id == request.id,
        "parent": request.parent_id,
        "group": request.group,
        "retries": request.retries,
        "expires": bool(request.expires),
        "eta": bool(request.eta),
        "timelimit": list(request.timelimit or ()),
        "redelivered": request.delivery_info["redelivered"],
        "exchange": request.delivery_info["exchange"],
        "routing_key": request.delivery_info["routing_key"],
        "origin": bool(request.origin),
        "reply_to": bool(request.reply_to),
        "eager": request.is_eager,
        "direct": request.called_directly,
        "shadow": request.shadow,
        "ignore_result": request.ignore_result,
        "color": getattr(request, "color", None),
        "hostname": bool(request.hostname),
        "lang": request.lang,
        "argsrepr": request.argsrepr,
        "kwargsrepr": request.kwargsrepr,
        "stamps": request.stamps,
        "utc": request.utc,
    }


@shared_task(bind=True)
def parent(self: Task) -> list[str]:
    child = lineage.delay()
    return [self.request.id, child.id]


@shared_task(bind=True)
def lineage(self: Task) -> list[str]:
    return [self.request.root_id, self.request.parent_id]


@shared_task(bind=True)
def replaces_itself(self: Task, a: int) -> None:
    raise self.replace(add.s(a, 100))


@shared_task(soft_time_limit=0.3)
def minds_the_time() -> str:
    try:
        time.sleep(20)
    except SoftTimeLimitExceeded:
        return "stopped in time"
    return "never"


@shared_task(time_limit=0.6)
def ignores_the_time() -> None:
    time.sleep(20)


@shared_task
def kills_its_process() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@shared_task(acks_late=True, reject_on_worker_lost=True)
def kills_its_process_once(mark: str) -> str:
    if journal.client().incr(f"{journal.PREFIX}:{mark}") == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return "survived"


@shared_task
def leaves() -> None:
    sys.exit(3)


@shared_task
def ignored() -> None:
    raise Ignore


@shared_task(acks_late=True)
def rejects() -> None:
    raise Reject("not for me", requeue=False)


@shared_task(bind=True, acks_late=True)
def rejects_once(self: Task, mark: str) -> str:
    if journal.client().incr(f"{journal.PREFIX}:{mark}") == 1:
        raise Reject("later", requeue=True)
    return f"redelivered: {self.request.delivery_info['redelivered']}"


@shared_task
def told_of_failure(request: Any, exc: BaseException, traceback: Any) -> None:
    journal.write(request.id, "errback", exception=type(exc).__name__)


class Hooked(Task):
    """A task class with every handler of its own."""

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        journal.write(task_id, "before_start")

    def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
        journal.write(task_id, "on_success", retval=retval)

    def on_failure(self, exc: BaseException, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        journal.write(task_id, "on_failure", exception=type(exc).__name__)

    def after_return(self, status: str, retval: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        journal.write(task_id, "after_return", status=status)


@shared_task(base=Hooked)
def hooked(good: bool) -> str:
    if not good:
        raise ValueError("bad")
    return "good"
