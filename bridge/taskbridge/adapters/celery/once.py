"""
`once=True`: the effects of a task happen once, however often its message is delivered.

A ledger knows each execution by its identity. The body runs in a transaction that also writes its ending into the
ledger, so that there are both or neither. A message that comes again finds the ending and repeats only what follows it:
result, callbacks, chain, part in a chord.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from threading import local
from typing import Any, Literal, NamedTuple, Protocol
from uuid import NAMESPACE_OID, uuid5

from celery.exceptions import Ignore, Reject, Retry
from celery.utils.serialization import ensure_serializable
from kombu.utils.json import dumps, loads

from taskbridge.adapters.celery.options import TaskOptions
from taskbridge.exceptions import ConfigurationError, LeaseLost, StoreUnavailable
from taskbridge.record import Identity

logger = logging.getLogger("taskbridge.once")

FIRST_PAUSE = 0.05
"""Seconds before a claim that was not granted is repeated for the first time; they double."""

LONGEST_PAUSE = 1.0
"""Seconds between two attempts to claim, at most."""

_MARK = "taskbridge_once"

EndingOutcome = Literal["success", "failure", "retry", "ignored", "rejected"]


class Ending(NamedTuple):
    """How a body ended: `result` is what it returned or raised, as JSON."""

    outcome: EndingOutcome
    result: bytes


@dataclass(frozen=True, slots=True)
class Claim:
    """
    The right to run a body.

    `token` is higher than that of every claim before. `forced` when somebody else may still be running it, whose time
    is over.
    """

    identity: Identity
    token: int
    forced: bool = False


class Ledger(Protocol):
    """Remembers executions. Whatever needs the database may raise StoreUnavailable."""

    def claim(self, identity: Identity, task: str, lease: float) -> Claim | Ending | None:
        """Return a claim for `lease` seconds, the ending of what has ended, or None while somebody else is at it."""
        ...

    def transaction(self, claim: Claim) -> AbstractContextManager[None]:
        """Return the transaction for the body; entering it raises LeaseLost when the claim is not the latest."""
        ...

    def finish(self, claim: Claim, ending: Ending) -> None:
        """Write the ending within the body's transaction; raise LeaseLost when the claim is not the latest."""
        ...

    def record(self, claim: Claim, ending: Ending) -> Ending:
        """
        Write the ending outside of the body's transaction, and return what stands in the ledger then.

        That is another one when the body's transaction was committed after all. Raises LeaseLost when the claim is not
        the latest.
        """
        ...

    def was_retried(self, identity: Identity) -> bool:
        """Return whether a later attempt of the same task has been claimed."""
        ...


class _Repeated(local):
    """What this thread repeated last."""

    identity: Identity | None = None


_repeated = _Repeated()


def asks_for_once(task: Any) -> bool:
    """Return whether a task declares `once=True`."""
    options = getattr(task, "bridge", None)
    return isinstance(options, TaskOptions) and options.once


def once_of(task: Any, identity: Identity) -> int:
    """Return what an observation of this thread's last execution says of it: RunRow's `once`."""
    if not asks_for_once(task):
        return 0
    return 2 if _repeated.identity == identity else 1


class Once:
    """Runs bodies once; one for a process."""

    def __init__(
        self,
        ledger: Ledger,
        lease: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`lease` is how many seconds a claim holds at least; a task's hard time limit may be longer."""
        self._ledger = ledger
        self._lease = lease
        self._clock = clock
        self._sleep = sleep

    def run(self, task: Any, body: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """
        Return what the body returns, or returned when it ran before; raise what it raises, or raised.

        The body runs as it is when no message asked for it: called directly, by `apply()` or eagerly. Raises
        StoreUnavailable, before the body has begun, when the database cannot be used for as long as a lease.
        """
        request = task.request
        if request.called_directly or request.is_eager or not request.id or hasattr(request, _MARK):
            return body(*args, **kwargs)
        # A body that calls its own `run` is inside already.
        setattr(request, _MARK, True)
        _repeated.identity = None
        identity = Identity(request.id, request.retries or 0, request.replaced_task_nesting or 0)
        pin_callbacks(request, identity)
        limit = (request.timelimit or (None, None))[0] or task.time_limit or 0.0
        lease = max(self._lease, float(limit))
        while True:
            found = self._claim(identity, task.name, lease)
            if isinstance(found, Ending):
                logger.info("task %s[%s] has run before; only what follows it is repeated", task.name, request.id)
                _repeated.identity = identity
                return self._outcome(task, identity, found)
            try:
                return self._execute(task, found, body, args, kwargs)
            except LeaseLost:
                logger.warning(
                    "task %s[%s] was taken over by another process, whose outcome counts: what it did here was undone",
                    task.name,
                    request.id,
                )

    def _claim(self, identity: Identity, name: str, lease: float) -> Claim | Ending:
        began = self._clock()
        pause = FIRST_PAUSE
        while True:
            try:
                found = self._ledger.claim(identity, name, lease)
                if found is not None:
                    return found
            except StoreUnavailable:
                if self._clock() - began > lease:
                    raise
            self._sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - it spreads load and hides nothing
            pause = min(2 * pause, LONGEST_PAUSE)

    def _execute(self, task: Any, claim: Claim, body: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        ignored: Ignore | None = None
        value = None
        try:
            with self._ledger.transaction(claim):
                try:
                    value = body(*args, **kwargs)
                except Ignore as error:
                    # An end that the task chose, as when it replaces itself: what it did stands.
                    ignored = error
                    ending = Ending("ignored", dumps(ensure_serializable(error.args, dumps)).encode())
                except RuntimeError as error:
                    if "durable atomic block" in str(error):
                        raise ConfigurationError(
                            f"task {task.name} asks for once=True, so its body runs in a transaction, and it opens "
                            f"atomic(durable=True), which must be outermost: take away one of the two"
                        ) from error
                    raise
                else:
                    ending = Ending("success", _encoded(task, value))
                self._ledger.finish(claim, ending)
        except LeaseLost:
            raise
        except Exception as error:
            stands = self._recorded(task, claim, error)
            if stands is not None:
                return self._outcome(task, claim.identity, stands)
            raise
        if ignored is not None:
            raise ignored
        return value

    def _recorded(self, task: Any, claim: Claim, error: Exception) -> Ending | None:
        """Record that a body raised; return how it ended if it has ended otherwise, when a commit had an error."""
        ending = _ending_of(error)
        if ending is None:
            return None
        try:
            stands = self._ledger.record(claim, ending)
        except StoreUnavailable as trouble:
            # Nothing is lost: the effects are undone, and a message that comes again runs it again.
            logger.warning("the failure of task %s[%s] was not recorded: %s", task.name, claim.identity[0], trouble)
            return None
        return None if stands == ending else stands

    def _outcome(self, task: Any, identity: Identity, ending: Ending) -> Any:
        """Return or raise again what a body returned or raised."""
        known = loads(ending.result.decode())
        match ending.outcome:
            case "success":
                return known
            case "ignored":
                raise Ignore(*known)
            case "rejected":
                raise Reject(*known)
            case "failure":
                raise task.backend.exception_to_python(known)
        if self._ledger.was_retried(identity):
            # Its state has moved on, and the retry's own must not be overwritten.
            raise Ignore("a later attempt has begun")
        cause = known["exc"]
        raised = task.backend.exception_to_python(cause) if isinstance(cause, Mapping) else cause
        raise Retry(known["message"], exc=raised, when=known["when"])


def pin_callbacks(request: Any, identity: Identity) -> None:
    """
    Give the callbacks and errbacks of a request task ids that are the same whenever its end is repeated.

    Celery makes an id for them when it sends them; those in a chain or a chord have theirs from the beginning.
    """
    for kind in ("callbacks", "errbacks"):
        for number, signature in enumerate(getattr(request, kind) or ()):
            _pin(signature, f"{identity.task_id}:{identity.retries}:{identity.nesting}:{kind}:{number}")


def _pin(signature: Any, seed: str) -> None:
    if not isinstance(signature, dict) or "task" not in signature:
        return
    options = signature.get("options")
    if not isinstance(options, dict):
        options = signature["options"] = {}
    if not options.get("task_id"):
        options["task_id"] = str(uuid5(NAMESPACE_OID, seed))
    kwargs: Any = signature.get("kwargs") or {}
    for name in ("tasks", "header", "body"):
        inner = kwargs.get(name)
        if isinstance(inner, list | tuple):
            for number, one in enumerate(inner):
                _pin(one, f"{seed}:{name}:{number}")
        else:
            _pin(inner, f"{seed}:{name}")


def _encoded(task: Any, value: Any) -> bytes:
    try:
        return dumps(value).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigurationError(
            f"task {task.name} asks for once=True and returned {type(value).__name__}, which JSON cannot express "
            f"({error}), so that it could not be repeated: its effects were undone; return something simpler"
        ) from error


def _ending_of(error: Exception) -> Ending | None:
    """Return what is to be remembered of a body that raised; None when it is to run again."""
    if isinstance(error, Retry):
        cause = error.excs if error.exc is None else _described(error.exc)
        when = error.when if isinstance(error.when, int | float) else str(error.when) if error.when else None
        return Ending("retry", dumps({"message": error.message, "exc": cause, "when": when}).encode())
    if isinstance(error, Reject):
        if error.requeue:
            return None
        return Ending("rejected", dumps([None if error.reason is None else str(error.reason)]).encode())
    return Ending("failure", dumps(_described(error)).encode())


def _described(error: BaseException) -> dict[str, Any]:
    """Return an exception in the form that Celery's result backends store as JSON."""
    kind = type(error)
    return {
        "exc_type": kind.__qualname__,
        "exc_message": ensure_serializable(error.args, dumps),
        "exc_module": kind.__module__,
    }
