"""What Celery's worker does with a task that it finds revoked, for one that no worker ever sees."""

from __future__ import annotations

from typing import Any

from celery.app.task import Context

from taskbridge.adapters.celery.lifecycle import request_of
from taskbridge.adapters.celery.payload import accepted_content, load
from taskbridge.exceptions import MalformedRecord
from taskbridge.record import Message

REASON = "revoked"
"""As Celery's worker says it."""


def announce_revoked(app: Any, message: Message, hostname: str) -> None:
    """
    Store the result REVOKED, tell a chord that waits for it, and send `task_revoked`.

    For a task that is not registered here, the result only. Raises whatever the result store or a receiver raises.
    """
    task = app.tasks.get(message.task)
    try:
        payload = load(message, accepted_content(app.conf.accept_content))
    except MalformedRecord:
        app.backend.mark_as_revoked(message.task_id, REASON)
        return
    if task is None:
        context = Context(payload.headers, args=payload.args, kwargs=payload.kwargs, **(payload.embed or {}))
        app.backend.mark_as_revoked(message.task_id, REASON, request=context)
        return
    request = request_of(message, payload, task, app, hostname, redelivered=False)
    request._announce_revoked(REASON, False, None, False)
