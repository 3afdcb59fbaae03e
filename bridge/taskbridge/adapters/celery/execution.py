"""
Runs the task of one record, exactly as a Celery worker's pool process would.

The way of a task that succeeds is short: decode, Celery's own tracer, done. Whatever else happens goes through a real
`celery.worker.request.Request`, whose acknowledgements and rejections are what decides about the record.
"""

from __future__ import annotations

import logging
import os
import time
from traceback import format_exception
from typing import Any

from billiard.einfo import ExceptionInfo
from celery import signals, states
from celery.exceptions import NotRegistered, Reject, SoftTimeLimitExceeded, WorkerLostError
from celery.utils.objects import Bunch
from celery.worker.state import revoked as revoked_tasks

from taskbridge.adapters.celery.lifecycle import RecordRequest, request_of
from taskbridge.adapters.celery.once import asks_for_once, once_of
from taskbridge.adapters.celery.payload import Payload, accepted_content, load
from taskbridge.adapters.celery.result import Result
from taskbridge.exceptions import MalformedRecord, RecordError, UnknownTask
from taskbridge.observation import Outcome
from taskbridge.record import Identity, Message, decode
from taskbridge.retry import after_loss
from taskbridge.worker.channel import Obituary, WorkItem
from taskbridge.worker.slots import SlotTable

logger = logging.getLogger(__name__)

_OUTCOMES: dict[str, Outcome] = {
    states.RETRY: "retry",
    states.FAILURE: "failure",
    states.REJECTED: "rejected",
    states.IGNORED: "ignored",
}


class TaskExecution:
    """Runs records one after another in this process, whose Celery application has been initialized."""

    def __init__(self, app: Any, hostname: str, topic: str, max_deliveries: int, table: SlotTable) -> None:
        self._app = app
        self._tasks = app._tasks
        self._hostname = hostname
        self._topic = topic
        self._max_deliveries = max_deliveries
        self._table = table
        self._accept = accepted_content(app.conf.accept_content)
        self._running: tuple[str, str, float] = ("", "", 0.0)

    def run(self, item: WorkItem) -> Result:
        """Run the record's task, or record the failure of one that took its executor down."""
        try:
            message, rest = decode(item.value, item.headers)
        except MalformedRecord as error:
            return self._unreadable(item, error)
        epoch, deliveries = _number(rest.get("bridge-epoch")), _number(rest.get("bridge-deliveries"))
        result = Result(message.task_id, 0, 0, message.task, "success", epoch, item.partition, item.offset, deliveries)
        try:
            payload = load(message, self._accept)
            headers = payload.headers
            result.retries = headers.get("retries") or 0
            result.nesting = headers.get("replaced_task_nesting") or 0
            task = self._tasks.get(message.task)
            if task is None:
                raise UnknownTask(
                    f"no task {message.task!r} is registered here; is the worker's code older than the dispatcher's?"
                )
        except RecordError as error:
            return self._refuse(result, message, error)
        try:
            if item.obituary is not None:
                return self._bury(result, message, payload, task, item.obituary)
            if headers.get("expires") or message.task_id in revoked_tasks or headers.get("stamped_headers"):
                ended = self._ended_before(result, message, payload, task)
                if ended is not None:
                    return ended
            return self._trace(result, message, payload, task)
        except Exception as error:  # noqa: BLE001 - most often the result store's: no task's own error comes this far
            return self._unrecorded(result, error)

    def _trace(self, result: Result, message: Message, payload: Payload, task: Any) -> Result:
        if signals.task_received.receivers:
            signals.task_received.send(sender=self, request=self._request(result, message, payload, task))
        headers = payload.headers
        properties = payload.properties
        delivery_info = properties.get("delivery_info", {})
        request = {
            **headers,
            "properties": properties,
            "reply_to": properties.get("reply_to"),
            "correlation_id": properties.get("correlation_id"),
            "hostname": self._hostname,
            "delivery_info": {
                "exchange": delivery_info.get("exchange"),
                "routing_key": delivery_info.get("routing_key"),
                "priority": properties.get("priority"),
                "redelivered": result.deliveries > 0,
            },
            "args": payload.args,
            "kwargs": payload.kwargs,
            "is_eager": False,
            **(payload.embed or {}),
        }
        hard, soft = headers.get("timelimit") or (None, None)
        hard, soft = hard or task.time_limit, soft or task.soft_time_limit
        limited = bool(hard or soft)
        if limited:
            now = time.monotonic()
            self._running = (message.task, message.task_id, soft or 0.0)
            self._table.set_deadlines(now + soft if soft else 0.0, now + hard if hard else 0.0)
        try:
            retval, info, _, _ = task.__trace__(message.task_id, payload.args, payload.kwargs, request)
        except Reject:
            info, retval = None, ExceptionInfo()
            result.outcome = "rejected"
        except (SystemExit, KeyboardInterrupt) as leaving:
            self._table.set_deadlines(0.0, 0.0)
            code = leaving.code if isinstance(leaving, SystemExit) else 1
            result.leave = code if isinstance(code, int) else int(code is not None)
            return self._lost(result, self._request(result, message, payload, task), ExceptionInfo())
        finally:
            if limited:
                self._table.set_deadlines(0.0, 0.0)
        if asks_for_once(task):
            result.once = once_of(task, Identity(result.task_id, result.retries, result.nesting))
        if info is None and not isinstance(retval, ExceptionInfo):
            return result
        if info is not None:
            result.outcome = _OUTCOMES[info.state]
        return self._after_error(result, self._request(result, message, payload, task), retval)

    def on_soft_limit(self, _signum: int, _frame: Any) -> None:
        """Handle the supervisor's signal: raise in the task, unless the task that was meant has ended meanwhile."""
        soft, hard = self._table.deadlines()
        if soft and time.monotonic() >= soft:
            self._table.set_deadlines(0.0, hard)
            name, task_id, limit = self._running
            logger.warning("Soft time limit (%ss) exceeded for %s[%s]", limit, name, task_id)
            raise SoftTimeLimitExceeded

    # What did not simply succeed

    def _after_error(self, result: Result, request: RecordRequest, einfo: ExceptionInfo) -> Result:
        """Let Celery's request handle the end of a task that raised, then see what it decided."""
        exception = einfo.exception
        exception = (
            getattr(exception, "exc", None) if type(exception).__name__ == "ExceptionWithTraceback" else exception
        )
        request.on_accepted(os.getpid(), time.monotonic())
        request.on_failure(einfo, return_ok=True)
        result.detail = type(exception).__name__ if exception is not None else ""
        if request.requeue:
            result.outcome, result.action = "requeued", "requeue"
        elif request.rejected or (isinstance(exception, Reject) and not exception.requeue):
            # Celery's broker would drop it, or move it to its own dead-letter exchange.
            result.outcome, result.action, result.reason = "dead", "dead", "rejected"
            why = exception.reason if isinstance(exception, Reject) else exception
            result.detail, result.traceback = str(why), str(einfo.traceback)
        return result

    def _bury(self, result: Result, message: Message, payload: Payload, task: Any, obituary: Obituary) -> Result:
        request = self._request(result, message, payload, task)
        if obituary.cause == "lost":
            if asks_for_once(task) and after_loss(True, result.deliveries, self._max_deliveries) == "requeue":
                # Whether it took effect stands in the ledger, so running it again does no harm, and not may.
                self._give_back(result, "its process ended while it ran")
                return result
            try:
                raise WorkerLostError(f"Worker exited prematurely: {_status(obituary.exitcode)}.")
            except WorkerLostError:
                return self._lost(result, request, ExceptionInfo())
        request.on_accepted(os.getpid(), time.monotonic())
        limit = (payload.headers.get("timelimit") or (None, None))[0] or task.time_limit
        request.on_timeout(soft=False, timeout=limit)
        result.outcome, result.detail = "failure", "TimeLimitExceeded"
        if request.requeue:
            self._give_back(result, f"exceeded its hard time limit of {limit} s")
        return result

    def _lost(self, result: Result, request: RecordRequest, einfo: ExceptionInfo) -> Result:
        """Decide about a record whose process ended while the task ran."""
        task = request.task
        request.on_accepted(os.getpid(), time.monotonic())
        wants = bool(task.acks_late and task.reject_on_worker_lost)
        if wants and after_loss(wants, result.deliveries, self._max_deliveries) == "dead":
            # Celery would have it run again for ever, so it records no failure; for us this was the last time.
            exception = einfo.exception
            task.backend.mark_as_failure(
                request.id, exception, request=request._context, store_result=request.store_errors
            )
            task.request_stack.push(request._context)
            try:
                signals.task_failure.send(
                    sender=task,
                    task_id=request.id,
                    exception=exception,
                    args=request.args,
                    kwargs=request.kwargs,
                    traceback=einfo.traceback,
                    einfo=einfo,
                )
            finally:
                task.request_stack.pop()
        else:
            request.on_failure(einfo)
        if request.succeeded_before:
            result.outcome = "success"
        elif request.retried:
            result.outcome = "retry"
        elif request.requeue:
            self._give_back(result, "its process ended while it ran")
        else:
            result.outcome, result.action, result.reason = "dead", "dead", "worker_lost"
            result.detail, result.traceback = "its process ended while it ran", str(einfo.traceback)
        return result

    def _give_back(self, result: Result, why: str) -> None:
        if after_loss(True, result.deliveries, self._max_deliveries) == "requeue":
            result.outcome, result.action, result.detail = "requeued", "requeue", why
        else:
            result.outcome, result.action, result.reason = "dead", "dead", "deliveries_exceeded"
            result.detail = f"{why}, for the {result.deliveries + 1}. time"

    def _ended_before(self, result: Result, message: Message, payload: Payload, task: Any) -> Result | None:
        """Return the result of a task that expired or was revoked before it began, else None."""
        request = self._request(result, message, payload, task)
        expired = bool(request.expires and request.maybe_expire())
        if not request.revoked():
            return None
        result.outcome, result.executed = "expired" if expired else "revoked", False
        return result

    def _refuse(self, result: Result, message: Message, error: RecordError) -> Result:
        """Dead-letter a record that cannot run, and record its failure where somebody may wait for its result."""
        result.outcome, result.executed, result.action = "dead", False, "dead"
        result.reason, result.detail = error.reason, str(error)
        if isinstance(error, UnknownTask):
            waiting = Bunch(
                name=message.task, chord=None, root_id=None, correlation_id=None, reply_to=None, errbacks=None
            )
            self._app.backend.mark_as_failure(message.task_id, NotRegistered(message.task), request=waiting)
            signals.task_unknown.send(sender=self, message=message, exc=error, name=message.task, id=message.task_id)
        else:
            signals.task_rejected.send(sender=self, message=message, exc=error)
        return result

    def _unrecorded(self, result: Result, error: Exception) -> Result:
        """Dead-letter a record whose task has ended, one way or another, when Celery could not record how."""
        logger.error("task %s[%s]: its outcome could not be recorded", result.task, result.task_id, exc_info=error)
        result.outcome, result.action, result.reason = "dead", "dead", "unrecorded"
        result.detail = f"its outcome could not be recorded: {type(error).__name__}: {error}"
        result.traceback = "".join(format_exception(error))
        return result

    def _unreadable(self, item: WorkItem, error: MalformedRecord) -> Result:
        signals.task_rejected.send(sender=self, message=item, exc=error)
        return Result(
            "", 0, 0, "", "dead", 0, item.partition, item.offset, 0,
            executed=False, action="dead", reason=error.reason, detail=str(error),
        )  # fmt: skip

    def _request(self, result: Result, message: Message, payload: Payload, task: Any) -> RecordRequest:
        return request_of(message, payload, task, self._app, self._hostname, result.deliveries > 0)


def _number(text: str | None) -> int:
    return int(text) if text and text.isdecimal() else 0


def _status(exitcode: int) -> str:
    return f"signal {-exitcode}" if exitcode < 0 else f"exit status {exitcode}"
