"""What Celery's workers did with the messages of bridged services, from Celery's own signals."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from billiard.exceptions import Terminated, TimeLimitExceeded, WorkerLostError
from celery import signals, states

from taskbridge.adapters.celery.addressing import Addressing
from taskbridge.adapters.celery.digest import arguments_digest
from taskbridge.adapters.celery.once import once_of
from taskbridge.adapters.celery.side import current_side
from taskbridge.adapters.celery.wire import queue_name
from taskbridge.cutover import Flag, Stage
from taskbridge.dispatch import Numbering, ThrottledLog
from taskbridge.dispatch.forks import call_in_child
from taskbridge.observation import Batch, Outcome, RunRow
from taskbridge.ports import Observer
from taskbridge.record import Identity
from taskbridge.settings import ServiceSettings

logger = logging.getLogger("taskbridge.observe")

_OUTCOMES: Mapping[str, Outcome] = {
    states.SUCCESS: "success",
    states.FAILURE: "failure",
    states.RETRY: "retry",
    states.IGNORED: "ignored",
    states.REJECTED: "rejected",
    states.REVOKED: "revoked",
}
_KILLED = (TimeLimitExceeded, WorkerLostError, Terminated)
# An underscore keeps it out of what a task may list of its request.
_MARK = "_taskbridge_started"
_HOLD = 5.0
_MOST_HELD = 5_000


class RunReporter:
    """
    Writes a `run` observation for each ending of a task of one app.

    A service whose flag was never set costs a look-up. One that was rolled back to `off` is still observed: what was
    dispatched before may run long after.
    """

    def __init__(
        self,
        app: Any,
        addressing: Addressing,
        flag: Callable[[str], Flag],
        observer: Observer,
        numbering: Numbering,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """`flag` returns a service's flag, `wall` seconds since the epoch."""
        self._default_queue = app.conf.task_default_queue
        self._addressing = addressing
        self._flag = flag
        self._observer = observer
        self._numbering = numbering
        self._wall = wall
        # A dispatching process may know of a first transition before this one does. What ran in between is held.
        self._held: deque[tuple[str, RunRow]] = deque(maxlen=_MOST_HELD)
        call_in_child(self._forget)

    def started(self, task: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Note that a task's body is about to run."""
        request = task.request
        if request.is_eager:
            return
        service = self._service(task.name, request.delivery_info, args, kwargs)
        if service is not None and service.observe:
            # Taken now, because a task may change what it was given.
            digest = arguments_digest(args, kwargs) if self._is_observed(service) else ""
            setattr(request, _MARK, (service, self._wall(), digest))

    def ended(self, task: Any, state: str | None, result: Any) -> None:
        """Note how a task's body ended; of a process that is being killed the worker's main process tells."""
        request = task.request
        mark = getattr(request, _MARK, None)
        outcome = _OUTCOMES.get(state or "")
        if mark is None or outcome is None:
            return
        service, started, digest = mark
        if outcome == "rejected" and getattr(result, "requeue", False):
            outcome = "requeued"
        identity = Identity(request.id, request.retries or 0, request.replaced_task_nesting or 0)
        detail, once = _detail(outcome, result), once_of(task, identity)
        self._report(service, task.name, request, outcome, started, digest, detail, once)

    def killed(self, task: Any, request: Any, error: BaseException) -> None:
        """Note that a task's process ended, or was ended, before its body did."""
        service = self._of(task, request)
        if service is not None:
            self._report(service, task.name, request, "failure", 0.0, "", type(error).__name__)

    def revoked(self, task: Any, request: Any, expired: bool) -> None:
        """Note that a message was not executed."""
        service = self._of(task, request)
        if service is not None:
            self._report(service, task.name, request, "expired" if expired else "revoked", 0.0, "", "")

    def unknown(self, name: str, task_id: str, headers: Mapping[str, Any], delivery_info: Mapping[str, Any]) -> None:
        """Note that no worker can execute a message, because it names no task that is registered."""
        service = self._service(name, delivery_info, (), {})
        if service is not None and service.observe:
            retries, nesting = headers.get("retries") or 0, headers.get("replaced_task_nesting") or 0
            now = self._wall()
            self._send(
                service, RunRow(task_id, retries, nesting, name, "celery", "rejected", 0.0, now, detail="NotRegistered")
            )

    def release(self) -> None:
        """Send what was held for services that have left `off` meanwhile; for a process that ends."""
        while self._held:
            service, row = self._held.popleft()
            if _left_off(self._flag(service)):
                self._observer.observe(Batch("run", service, self._numbering.source, (row,)))

    def _forget(self) -> None:
        self._held.clear()

    def _of(self, task: Any, request: Any) -> ServiceSettings | None:
        service = self._service(task.name, request.delivery_info, request.args or (), request.kwargs or {})
        return service if service is not None and service.observe else None

    def _service(
        self, name: str, delivery_info: Mapping[str, Any] | None, args: Any, kwargs: Any
    ) -> ServiceSettings | None:
        info = delivery_info or {}
        queue = queue_name(info.get("exchange") or "", info.get("routing_key"), None, self._default_queue)
        return self._addressing.service(name, queue, args, kwargs)

    def _is_observed(self, service: ServiceSettings) -> bool:
        return _left_off(self._flag(service.name))

    def _report(
        self,
        service: ServiceSettings,
        name: str,
        request: Any,
        outcome: Outcome,
        started: float,
        digest: str,
        detail: str,
        once: int = 0,
    ) -> None:
        row = RunRow(
            id=request.id,
            retries=request.retries or 0,
            nesting=request.replaced_task_nesting or 0,
            task=name,
            side="celery",
            outcome=outcome,
            started=started,
            finished=self._wall(),
            args=digest,
            detail=detail,
            once=once,
        )
        self._send(service, row)

    def _send(self, service: ServiceSettings, row: RunRow) -> None:
        if not self._is_observed(service):
            while self._held and self._held[0][1].finished < row.finished - _HOLD:
                self._held.popleft()
            self._held.append((service.name, row))
            return
        if self._held:
            self.release()
        self._observer.observe(Batch("run", service.name, self._numbering.source, (row,)))


def _left_off(flag: Flag) -> bool:
    return flag.stage is not Stage.OFF or flag.epoch > 0


def _detail(outcome: Outcome, result: Any) -> str:
    if outcome == "retry":
        result = getattr(result, "exc", None)
    return type(result).__name__ if isinstance(result, BaseException) else ""


def connect_observation(reporter_of: Callable[[Any], RunReporter | None]) -> None:
    """
    Connect to Celery's signals, once however often it is called.

    `reporter_of` returns the reporter of an app, or None for an app that has no bridge. A failure to observe is logged
    and never reaches a task. Does nothing in an executor of our own worker, which reports what it runs itself.
    """
    if current_side() != "celery":
        # A receiver costs every task, also when it says nothing.
        return
    log = ThrottledLog(logger)

    def guarded(app: Any, note: Callable[[RunReporter], None]) -> None:
        if current_side() != "celery":
            return
        try:
            reporter = reporter_of(app)
            if reporter is not None:
                note(reporter)
        except Exception as error:  # noqa: BLE001 - observing must never disturb what it observes
            log.warning(repr(type(error)), "a run was not observed: %r", error)

    def on_prerun(task: Any, args: Any, kwargs: Any, **_: Any) -> None:
        guarded(task.app, lambda reporter: reporter.started(task, args, kwargs))

    def on_postrun(task: Any, state: str | None, retval: Any, **_: Any) -> None:
        guarded(task.app, lambda reporter: reporter.ended(task, state, retval))

    def on_failure(sender: Any, task_id: str, exception: BaseException, **_: Any) -> None:
        # Celery may signal a hard time limit twice, and has the request at hand once.
        request = sender.request
        if isinstance(exception, _KILLED) and request.id == task_id and not hasattr(request, _MARK):
            guarded(sender.app, lambda reporter: reporter.killed(sender, request, exception))

    def on_revoked(sender: Any, request: Any, expired: bool, **_: Any) -> None:
        guarded(sender.app, lambda reporter: reporter.revoked(sender, request, bool(expired)))

    def on_unknown(sender: Any, message: Any, name: str, **options: Any) -> None:
        headers, info = message.headers or {}, message.delivery_info or {}
        guarded(sender.app, lambda reporter: reporter.unknown(name, options["id"], headers, info))

    for signal, receiver in (
        (signals.task_prerun, on_prerun),
        (signals.task_postrun, on_postrun),
        (signals.task_failure, on_failure),
        (signals.task_revoked, on_revoked),
        (signals.task_unknown, on_unknown),
    ):
        signal.connect(receiver, weak=False, dispatch_uid=f"taskbridge.{receiver.__name__}")
