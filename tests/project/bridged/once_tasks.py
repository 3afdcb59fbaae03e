"""
Tasks that run once, and the moments at which their process may be killed.

A test orders a death by a Redis key, `fault`; whoever comes to that point takes the key and dies. Executions of bodies
are written down in Redis, which nobody rolls back; effects are rows of a table, which the test makes.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Any

from celery import Task, current_task, shared_task, signals
from django.db import connection, transaction

from bridged import journal
from taskbridge import TaskOptions

ONCE = TaskOptions(service="work", once=True)
PLAIN = TaskOptions(service="work")
LATE = {"acks_late": True, "reject_on_worker_lost": True}


def fault(name: str, point: str) -> str:
    """Return the Redis key that orders a death."""
    return f"{journal.PREFIX}:fault:{name}:{point}"


def reach(name: str, point: str) -> None:
    """Die here if it was ordered, or wait to be killed if that was."""
    order = journal.client().getdel(fault(name, point))
    if order == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if order == "wait":
        journal.write(name, "waits", point=point, pid=os.getpid())
        time.sleep(60)
    if order == "leave":
        sys.exit(3)


def act(name: str) -> None:
    """Leave one effect, and trace that the body ran."""
    journal.write(name, "body")
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO once_effect (name) VALUES (%s)", (name,))
    transaction.on_commit(lambda: reach(name, "commit"))
    reach(name, "body")


@signals.after_task_publish.connect
def _published(**_: Any) -> None:
    # Of what a task dispatches, which is its name's own.
    name = _name_of(current_task)
    if name:
        reach(name, "published")


@signals.task_success.connect
def _succeeded(sender: Any, **_: Any) -> None:
    if name := _name_of(sender):
        reach(name, "success")


@signals.task_retry.connect
def _retried(sender: Any, **_: Any) -> None:
    if name := _name_of(sender):
        reach(name, "retry")


def _name_of(task: Any) -> str:
    return ((task.request.kwargs or {}).get("name") or "") if task and task.name.startswith(__name__) else ""


@shared_task(bridge=ONCE, **LATE)
def step(total: int, name: str) -> int:
    act(name)
    return total + 1


@shared_task(bridge=ONCE, **LATE)
def total(numbers: list[int], name: str) -> int:
    act(name)
    return sum(numbers)


@shared_task(bridge=ONCE, **LATE)
def fails(name: str) -> None:
    act(name)
    raise ValueError(name)


@shared_task(bind=True, bridge=ONCE, max_retries=3, **LATE)
def again(self: Task, name: str) -> int:
    act(name)
    if self.request.retries < 1:
        raise self.retry(countdown=0.1)
    return int(self.request.retries)


@shared_task(bridge=ONCE, **LATE)
def tells(name: str) -> str:
    act(name)
    heard.delay_on_commit(name)
    return name


@shared_task(bridge=PLAIN)
def heard(name: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT outcome FROM taskbridge_execution WHERE task LIKE %s AND outcome <> ''", ("%tells",))
        journal.write(name, "heard", outcomes=[row[0] for row in cursor.fetchall()])


@shared_task(bridge=ONCE, **LATE)
def writes(name: str) -> str:
    """Dispatch by a row that is committed with the effect; then the body may die."""
    written.delay(name)
    act(name)
    return name


@shared_task(bridge=TaskOptions(service="work", publish="outbox"))
def written(name: str) -> None:
    journal.write(name, "written")


@shared_task(bridge=ONCE)
def early(name: str) -> str:
    """Acknowledged before it begins, as is Celery's default."""
    act(name)
    return name


@shared_task(bridge=ONCE, time_limit=2, **LATE)
def overdue(name: str) -> None:
    act(name)
    time.sleep(60)


@shared_task(bridge=ONCE)
def durable(name: str) -> None:
    act(name)
    with transaction.atomic(durable=True):
        pass


@shared_task(bridge=ONCE)
def returns_what_json_lacks(name: str) -> Any:
    act(name)
    return object()


@shared_task(bind=True, bridge=ONCE)
def sees(self: Task, name: str) -> dict[str, Any]:
    """Return what its request says, and what a body that runs once can do beside its own work."""
    act(name)
    request = self.request
    return {
        "id": request.id,
        "retries": request.retries,
        "eager": request.is_eager,
        "direct": request.called_directly,
        "args": list(request.args),
        "kwargs": request.kwargs,
        "in transaction": connection.in_atomic_block,
    }


@shared_task(bridge=PLAIN)
def calls(name: str) -> list[Any]:
    """Call bodies that run once as functions, from a body that does not."""
    inner = sees(name)
    return [step(1, name), step.run(1, name), inner["direct"], connection.in_atomic_block]


@shared_task(bridge=PLAIN)
def told(request: Any, exc: BaseException, traceback: Any) -> None:
    journal.write(exc.args[0], "errback", exception=type(exc).__name__)
