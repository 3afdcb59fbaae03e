"""One message on its way out, as the dispatcher sees it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from taskbridge.record import Message
from taskbridge.settings import PublishMode, ServiceSettings


@dataclass(slots=True)
class Outgoing:
    """
    A serialized message whose road is not decided yet.

    `to_celery` publishes it as plain Celery would; `message` returns it for a record and raises TypeError or ValueError
    when it does not fit into one; `unsupported` returns what only Celery's worker can do for it, or an empty string.
    `due` is the time before which it must not run (seconds since the epoch), 0 when it may run at once;
    `countdown` is how many seconds away that is, where the caller said so rather than giving a time. `publish` is
    how a publish to Kafka ends for the caller.
    """

    service: ServiceSettings
    task: str
    task_id: str
    retries: int
    nesting: int
    key: str
    body: bytes
    to_celery: Callable[[], Any]
    message: Callable[[], Message]
    unsupported: Callable[[], str]
    due: float = 0.0
    traceparent: str | None = None
    countdown: float | None = None
    publish: PublishMode = "confirm"
