"""
Dispatch in services that keep the order of a key, also while keys change side.

Each message passes a gate: what the database says of its service and key is read anew while no transition can pass, and
the gate is left when the message is published, or is a row of the outbox behind those that its key has there already.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, Protocol

from taskbridge.cutover import Decision, Flag, decide
from taskbridge.dispatch.breaker import Breaker
from taskbridge.dispatch.counters import Counting
from taskbridge.dispatch.numbering import Numbering
from taskbridge.dispatch.outgoing import Outgoing
from taskbridge.dispatch.settling import put_aside
from taskbridge.dispatch.throttle import ThrottledLog
from taskbridge.dispatch.traces import Sending, Traces
from taskbridge.exceptions import (
    ConfigurationError,
    MessageTooLarge,
    PublishAmbiguous,
    PublishRefused,
    StoreUnavailable,
)
from taskbridge.observation import CopyState, DispatchRoute
from taskbridge.ports import ConfirmedPublisher, PendingMessage, Road
from taskbridge.record import Message, Stamp, encode, size
from taskbridge.routing import bucket
from taskbridge.settings import Settings


class GateBusy(StoreUnavailable):
    """A transition of the service did not end in time: the database answers, so the order is not given up."""


class Passage(Protocol):
    """One message inside the gate."""

    @property
    def flag(self) -> Flag:
        """The service's flag; no transition changes it before the gate is left."""
        ...

    @property
    def waiting(self) -> Road | None:
        """None when nothing of the key is in the outbox, `held` when some is held back, else `any`."""
        ...

    def keep(self, pending: PendingMessage) -> None:
        """Put the message into the outbox when the gate is left; raise StoreUnavailable, or ConfigurationError."""
        ...


class Gates(Protocol):
    """Lets messages of ordered services through, one transaction each."""

    def open(self, service: str, key: str) -> AbstractContextManager[Passage]:
        """
        Enter the gate of a service.

        Raises StoreUnavailable when the database cannot be asked, GateBusy when it answers and the gate stays shut.
        Leaving raises StoreUnavailable when what was kept is not stored, or the lock was lost.
        """
        ...


class OrderedRoad:
    """
    Sends the messages of ordered services.

    A message is kept for the relay instead of taking another road: while its key changes side, while an earlier one of
    its key waits, and when Kafka does not take it. One that is not due yet gives up its place.
    """

    def __init__(
        self,
        settings: Settings,
        gates: Gates,
        confirmed: ConfirmedPublisher,
        breaker: Breaker,
        traces: Traces,
        numbering: Numbering,
        log: ThrottledLog,
        plain: Callable[[Sending], Any],
        copy: Callable[[Outgoing, Stamp, bool], bool],
    ) -> None:
        """
        `plain` sends a message as in other services. `copy` offers a copy, for the sandbox or not, and returns whether
        it was taken.
        """
        self._settings = settings
        self._gates = gates
        self._confirmed = confirmed
        self._breaker = breaker
        self._traces = traces
        self._numbering = numbering
        self._log = log
        self._plain = plain
        self._copy = copy

    def dispatch(self, sending: Sending) -> Any:
        """
        Send a message in its turn; the flag that it comes with decides only when the database cannot be asked.

        Raises what Celery's publish raises, ConfigurationError or MessageTooLarge for what cannot keep its order on
        Kafka, StoreUnavailable when a message had to be kept and could not.
        """
        outgoing = sending.outgoing
        if outgoing.due > sending.at:
            return self._plain(sending)
        service = outgoing.service.name
        passed: _Passed | None = None
        entered = False
        try:
            with self._gates.open(service, outgoing.key) as passage:
                entered = True
                passed = self._through(passage, Sending(passage.flag, outgoing, sending.at))
        except GateBusy:
            raise
        except StoreUnavailable as error:
            if entered and (passed is None or passed.kept):
                raise
            # Nothing was read, or the lock was lost while the message went out: a transition may have passed.
            self._traces.counters.add(service, "unfenced")
            self._log.warning("unfenced", "task %s is not sure of its place: %s", outgoing.task, error)
        if passed is None:
            return self._plain(sending)
        return self._note(passed)

    def _through(self, passage: Passage, sending: Sending) -> _Passed:
        outgoing, fence = sending.outgoing, sending.flag.fence
        number = bucket(self._settings.salt, outgoing.key)
        if passage.waiting == "held" or (fence is not None and fence.sides and fence.covers(number)):
            return self._keep(passage, sending, "held")
        if passage.waiting is not None:
            return self._keep(passage, sending, "any")
        decision = decide(sending.flag, number)
        if decision.kafka:
            return self._to_kafka(passage, sending)
        result = outgoing.to_celery()
        # The number after it: what Celery's broker refused was never dispatched.
        return _Passed(sending, "celery", self._stamp("celery", sending), ("celery",), result, decision=decision)

    def _to_kafka(self, passage: Passage, sending: Sending) -> _Passed:
        outgoing = sending.outgoing
        message = self._message(sending)
        if not self._breaker.allows():
            return self._keep(passage, sending, "any", "breaker")
        stamp = self._stamp("kafka", sending)
        record = encode(message, outgoing.key, stamp, outgoing.traceparent)
        try:
            self._confirmed.publish(self._settings.topic(outgoing.service.name), record)
        except PublishRefused as error:
            self._log.warning("refused", "task %s waits in the outbox: %s", outgoing.task, error)
            return self._keep(passage, sending, "any", "refused")
        except PublishAmbiguous as error:
            self._breaker.failed()
            self._log.warning("ambiguous", "task %s goes to the outbox: %s", outgoing.task, error)
            passage.keep(replace(put_aside(outgoing, message, stamp, sending.at), attempts=1))
            return _Passed(sending, "kafka", stamp, ("kafka", "ambiguous"), kept=True)
        self._breaker.succeeded()
        return _Passed(sending, "kafka", stamp, ("kafka",))

    def _keep(self, passage: Passage, sending: Sending, road: Road, *why: Counting) -> _Passed:
        stamp = self._stamp("delayed", sending)
        pending = put_aside(sending.outgoing, self._message(sending), stamp, sending.at)
        passage.keep(replace(pending, road=road))
        return _Passed(sending, "delayed", stamp, ("queued", *why), kept=True)

    def _message(self, sending: Sending) -> Message:
        outgoing = sending.outgoing
        if feature := outgoing.unsupported():
            raise ConfigurationError(
                f"task {outgoing.task}[{outgoing.task_id}] cannot keep its order on Kafka, because only Celery's worker"
                f" can do what it asks for ({feature}): send it without, or do without ordered in service"
                f" {outgoing.service.name!r}"
            )
        try:
            message = outgoing.message()
        except (TypeError, ValueError) as error:
            raise ConfigurationError(
                f"task {outgoing.task}[{outgoing.task_id}] cannot keep its order on Kafka, because its headers are not"
                f" JSON: {error}"
            ) from error
        stamp = Stamp("delayed", sending.flag.epoch, self._numbering.source, 10**12)
        found = size(encode(message, outgoing.key, stamp, outgoing.traceparent))
        limit = self._settings.max_message_bytes
        if found > limit:
            raise MessageTooLarge(
                f"task {outgoing.task}[{outgoing.task_id}] cannot keep its order on Kafka, because its record of"
                f' {found:,} bytes exceeds TASKBRIDGE["max_message_bytes"], {limit:,}: send a reference to the data'
                f" instead, or raise the limit here and on the topic"
            )
        return message

    def _stamp(self, route: str, sending: Sending) -> Stamp:
        return Stamp(route, sending.flag.epoch, *self._numbering.next(sending.outgoing.service.name))

    def _note(self, passed: _Passed) -> Any:
        sending, counted = passed.sending, passed.counted
        copy: CopyState = "none"
        if passed.decision is not None and passed.decision.copy:
            copy = "sent" if self._copy(sending.outgoing, passed.stamp, passed.decision.sandbox) else "lost"
            counted = (*counted, "copy_sent" if copy == "sent" else "copy_lost")
        due = sending.at if passed.route == "delayed" else None
        self._traces.note(
            sending, passed.route, passed.stamp, *counted, copy=copy, ambiguous=int("ambiguous" in counted), due=due
        )
        return passed.result


@dataclass(frozen=True, slots=True)
class _Passed:
    """What became of a message inside the gate; the `decision` says whether a copy of it is still to be sent."""

    sending: Sending
    route: DispatchRoute
    stamp: Stamp
    counted: tuple[Counting, ...]
    result: Any = None
    kept: bool = False
    decision: Decision | None = None
