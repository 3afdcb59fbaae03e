"""What Celery's side must offer before a process of the bridge starts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from kombu.exceptions import OperationalError
from kombu.utils.url import maybe_sanitize_url

from taskbridge.adapters.celery.queues import CONNECT_TIMEOUT
from taskbridge.checks import Line, fail, ok, warn, within

ATTEMPT = 5.0
"""Seconds for one question."""

_TASK_ID = "taskbridge-check"
"""An id that no task has: asking for its state reads and creates nothing."""


def celery_lines(app: Any, *, needed: bool = True) -> Iterator[Line]:
    """
    Yield whether the broker and the result backend answer; passwords in their URLs are never shown.

    Unless they are `needed`, one that does not answer is no failure.
    """
    away = fail if needed else warn
    yield _broker(app, away)
    yield _results(app, away)


def _broker(app: Any, away: Callable[[str, str, str], Line]) -> Line:
    subject = "Celery's broker"
    url = ""

    def connect() -> str:
        with app.connection_for_read(connect_timeout=CONNECT_TIMEOUT) as connection:
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=CONNECT_TIMEOUT)
            return str(connection.as_uri())

    try:
        url = within(ATTEMPT, connect)
    except (OperationalError, OSError) as error:
        return away(subject, f"does not answer: {_first_line(error)}", "check broker_url and that the broker runs")
    return ok(subject, url)


def _results(app: Any, away: Callable[[str, str, str], Line]) -> Line:
    subject = "result backend"
    url = str(app.conf.result_backend or "")
    scheme = url.partition(":")[0]
    shown = maybe_sanitize_url(url) if "://" in url else url
    if not url or scheme == "disabled":
        return ok(subject, "none: no task's result is stored")
    if scheme in {"rpc", "amqp"}:
        remedy = "use one that every worker reaches, such as redis"
        return fail(subject, f"{scheme}:// results stay with Celery's broker, where no Kafka worker puts them", remedy)
    if scheme == "db" or url.startswith(("db+", "sqla+")):
        return warn(subject, f"{shown}: not tested, because asking it would create its tables", "see that it answers")
    try:
        within(ATTEMPT, lambda: app.backend.get_task_meta(_TASK_ID, cache=False))
    except Exception as error:  # noqa: BLE001 - each backend has errors of its own
        return away(subject, f"{shown} does not answer: {_first_line(error)}", "check result_backend and that it runs")
    return ok(subject, str(shown))


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
