"""
Celery's own request object for one record, and what it decided.

Everything that Celery does when a task does not simply succeed (storing failures, errbacks, signals, revocation, early
and late acknowledgement) is in `celery.worker.request.Request`; here it only learns where its decisions go.
"""

from __future__ import annotations

from typing import Any

from celery.worker.request import Request
from kombu.message import Message as KombuMessage

from taskbridge.adapters.celery.payload import Payload
from taskbridge.record import Message


class RecordRequest(Request):
    """A request whose acknowledgement or rejection is remembered rather than sent to a broker."""

    requeue = False
    """It was rejected and is to run again."""

    rejected = False
    """It was rejected, to run again or not."""

    retried = False
    """It was lost with its process, and the task's own setting had it sent again (`retry_on_worker_lost`)."""

    succeeded_before = False
    """It was lost with its process after its success had been stored."""

    def _on_record_reject(self, _logger: Any, _errors: Any, requeue: bool = False) -> None:
        self.rejected = True
        self.requeue = requeue

    def _retry_worker_lost(self, exc: Any, exc_info: Any) -> Any:
        self.retried = bool(super()._retry_worker_lost(exc, exc_info))
        return self.retried

    def _success_was_stored(self) -> Any:
        stored = super()._success_was_stored()
        self.succeeded_before = bool(stored)
        return stored


def _acknowledged(_logger: Any, _errors: Any) -> None:
    """Do nothing: the offset is finished when the executor says so."""


def request_of(
    message: Message, payload: Payload, task: Any, app: Any, hostname: str, redelivered: bool
) -> RecordRequest:
    """Return the request that a Celery worker would have built from the same message."""
    delivery_info = {**payload.properties.get("delivery_info", {}), "redelivered": redelivered}
    envelope = KombuMessage(
        body=message.body,
        content_type=message.content_type,
        content_encoding=message.content_encoding,
        properties=payload.properties,
        headers={},
        delivery_info=delivery_info,
    )
    request = RecordRequest(
        envelope,
        on_ack=_acknowledged,
        app=app,
        hostname=hostname,
        task=task,
        headers=payload.headers,
        body=(payload.args, payload.kwargs, payload.embed),
        decoded=True,
        utc=True,
    )
    request.on_reject = request._on_record_reject
    return request
