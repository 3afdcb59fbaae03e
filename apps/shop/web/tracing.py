"""
One id from an HTTP request to every task that it sets going, and in every log line of them.

The id travels as a message header, so that it also survives retries and callbacks.
"""

import logging
import re
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any
from uuid import uuid4

from celery import signals
from celery.app.task import Task
from django.http import HttpRequest, HttpResponse

HEADER = "X-Request-Id"
MESSAGE_HEADER = "request_id"
ACCEPTED = re.compile(r"[A-Za-z0-9._-]{1,64}")

_current: ContextVar[str] = ContextVar("request_id", default="-")


def current() -> str:
    """Return the id of the request that this work belongs to, or `-`."""
    return _current.get()


class RequestIdMiddleware:
    """Take the caller's request id, or make one, and answer with it."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        given = request.headers.get(HEADER, "")
        token = _current.set(given if ACCEPTED.fullmatch(given) else uuid4().hex)
        try:
            response = self._get_response(request)
            response[HEADER] = current()
        finally:
            _current.reset(token)
        return response


class RequestIdFilter(logging.Filter):
    """Give every log record the id of the request that it belongs to."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Return True always: the filter only adds to records."""
        record.request_id = current()
        return True


@signals.before_task_publish.connect
def stamp_message(headers: dict[str, Any], **_: Any) -> None:
    """Write the id into a message that is about to be published."""
    if current() != "-":
        headers.setdefault(MESSAGE_HEADER, current())


@signals.task_prerun.connect
def adopt_message(task: Task, **_: Any) -> None:
    """Work under the id that came with the message."""
    _current.set(getattr(task.request, MESSAGE_HEADER, None) or "-")


@signals.task_postrun.connect
def drop_message(**_: Any) -> None:
    """Work under no id any more."""
    _current.set("-")
