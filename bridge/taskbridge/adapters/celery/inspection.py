"""What the shadow worker does with a copy: everything up to the call, and not the call."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from typing import Any

from taskbridge.adapters.celery.digest import arguments_digest
from taskbridge.adapters.celery.payload import accepted_content, load
from taskbridge.exceptions import MalformedRecord
from taskbridge.observation import Outcome
from taskbridge.record import Message, decode
from taskbridge.worker.channel import WorkItem


@dataclass(slots=True)
class CopyResult:
    """How far a copy came; shaped for the executor like a task's result, but there is never anything left to do."""

    message: Message | None
    item: WorkItem
    retries: int = 0
    nesting: int = 0
    epoch: int = 0
    producer: str = ""
    seq: int = 0
    decoded: bool = False
    resolved: bool = False
    bound: bool = False
    args: str = ""
    error: str = ""
    executed: bool = False
    outcome: Outcome = "ignored"
    action: str = ""
    reason: str = ""
    detail: str = ""
    traceback: str = ""
    leave: int | None = None

    def row(self, _started: float, _finished: float) -> tuple[Any, ...]:
        """Return the fields of a CopyRow, in order."""
        message = self.message
        return (
            message.task_id if message else "",
            self.retries,
            self.nesting,
            message.task if message else "",
            self.epoch,
            self.producer,
            self.seq,
            self.item.partition,
            self.item.offset,
            self.decoded,
            self.resolved,
            self.bound,
            sha256(message.body).hexdigest()[:16] if message else "",
            self.args,
            self.error,
        )


class CopyInspection:
    """Decodes copies, finds their tasks, binds their arguments, and takes digests."""

    def __init__(self, app: Any) -> None:
        self._tasks = app._tasks
        self._accept = accepted_content(app.conf.accept_content)

    def inspect(self, item: WorkItem) -> CopyResult:
        """Return what became of the copy; nothing is executed and nothing raised."""
        try:
            message, rest = decode(item.value, item.headers)
        except MalformedRecord as error:
            return CopyResult(None, item, error=f"decode: {error}")
        result = CopyResult(message, item, producer=rest.get("bridge-producer", ""))
        result.epoch, result.seq = _number(rest.get("bridge-epoch")), _number(rest.get("bridge-seq"))
        try:
            _, result.retries, result.nesting = message.identity()
            payload = load(message, self._accept)
        except MalformedRecord as error:
            result.error = f"decode: {error}"
            return result
        result.decoded = True
        result.retries = payload.headers.get("retries") or 0
        result.nesting = payload.headers.get("replaced_task_nesting") or 0
        task = self._tasks.get(message.task)
        if task is None:
            result.error = f"resolve: no task {message.task!r} is registered here"
            return result
        result.resolved = True
        try:
            _signature(task).bind(*payload.args, **payload.kwargs)
        except TypeError as error:
            result.error = f"bind: {error}"
            return result
        result.bound = True
        result.args = arguments_digest(payload.args, payload.kwargs)
        return result


@cache
def _signature(task: Any) -> inspect.Signature:
    return inspect.signature(task.run)


def _number(text: str | None) -> int:
    return int(text) if text and text.isdecimal() else 0
