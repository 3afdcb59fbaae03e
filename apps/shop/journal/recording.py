"""Write the journal from Celery's signals."""

import os
from datetime import datetime
from typing import Any

from celery import signals
from celery.app.task import Context, Task
from django.utils import timezone

import taskbridge
from shop.journal.models import Dispatch, Run


def connect() -> None:
    """Record every dispatch and every run of this process from now on."""
    signals.after_task_publish.connect(record_dispatch)
    signals.task_prerun.connect(record_start)
    signals.task_postrun.connect(record_end)
    signals.task_failure.connect(record_failure)
    signals.task_revoked.connect(record_revoked)


def record_dispatch(headers: dict[str, Any], routing_key: str, **_: Any) -> None:
    """Write down a message that was published."""
    eta = headers.get("eta")
    Dispatch.objects.create(
        task_id=headers["id"],
        retries=headers.get("retries") or 0,
        replaced_task_nesting=headers.get("replaced_task_nesting") or 0,
        task=headers["task"],
        queue=routing_key,
        at=timezone.now(),
        not_before=datetime.fromisoformat(eta) if eta else None,
    )


def record_start(task_id: str, task: Task, **_: Any) -> None:
    """Write down that a task's body is about to run."""
    request: Context = task.request
    request.journal_run = Run.objects.create(
        task_id=task_id,
        retries=request.retries or 0,
        replaced_task_nesting=request.replaced_task_nesting or 0,
        task=task.name,
        side=taskbridge.current_side(),
        worker=request.hostname or "",
        pid=os.getpid(),
        started_at=timezone.now(),
    ).pk


def record_end(task: Task, state: str | None, **_: Any) -> None:
    """Write down how the run ended that `record_start` wrote down."""
    run = getattr(task.request, "journal_run", None)
    if run is not None:
        Run.objects.filter(pk=run).update(finished_at=timezone.now(), state=state or "")


def record_failure(task_id: str, **_: Any) -> None:
    """Write down the end of a run whose process died in it, so that no `record_end` will come."""
    Run.objects.filter(task_id=task_id, finished_at=None).update(finished_at=timezone.now(), state="FAILURE")


def record_revoked(request: Context, expired: bool, **_: Any) -> None:
    """Write down that a message was taken and thrown away without running it."""
    now = timezone.now()
    Run.objects.create(
        task_id=request.id,
        retries=request.retries or 0,
        replaced_task_nesting=request.replaced_task_nesting or 0,
        task=request.task,
        side=taskbridge.current_side(),
        worker=request.hostname or "",
        pid=os.getpid(),
        started_at=now,
        finished_at=now,
        state="EXPIRED" if expired else "REVOKED",
    )
