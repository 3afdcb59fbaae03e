"""Tasks that write down that they ran."""

import os
import time
from pathlib import Path
from typing import Any

from celery import shared_task
from django.db import connection

from taskbridge import TaskOptions

_files: dict[int, int] = {}


def note(request: Any) -> None:
    """Append a line to this process's file, in one write."""
    pid = os.getpid()
    if pid not in _files:
        path = Path(os.environ["SOAKED_DIRECTORY"]) / f"ran-{pid}.log"
        _files[pid] = os.open(path, os.O_APPEND | os.O_CREAT | os.O_WRONLY, 0o600)
    side = "kafka" if request.hostname.startswith("taskbridge-") else "celery"
    os.write(_files[pid], f"{request.id} {side} {time.time():.6f}\n".encode())


def effect(request: Any) -> None:
    """Write a row; the effect that must be there once."""
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO soaked_effect (task_id) VALUES (%s)", (request.id,))


@shared_task(bind=True)
def confirm_plain(self: Any) -> None:
    """Run."""
    note(self.request)


@shared_task(bind=True)
def barrier_plain(self: Any) -> None:
    """Run."""
    note(self.request)


@shared_task(bind=True)
def outbox_plain(self: Any) -> None:
    """Run."""
    note(self.request)


@shared_task(bind=True, bridge=TaskOptions(once=True))
def confirm_once(self: Any) -> None:
    """Have an effect."""
    effect(self.request)


@shared_task(bind=True, bridge=TaskOptions(once=True))
def barrier_once(self: Any) -> None:
    """Have an effect."""
    effect(self.request)


@shared_task(bind=True, bridge=TaskOptions(once=True))
def outbox_once(self: Any) -> None:
    """Have an effect."""
    effect(self.request)
