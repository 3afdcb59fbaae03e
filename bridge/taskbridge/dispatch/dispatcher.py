"""
The decision for one message, and its consequences.

Nothing here may lose a message, run it twice without counting that, or let a failure of Kafka reach a caller whose
service is not live.
"""

from __future__ import annotations

import atexit
import logging
import time
from collections.abc import Callable
from typing import Any

from taskbridge.cutover import BASIS_POINTS, Flag, FlagCache, Stage, decide
from taskbridge.dispatch import barrier
from taskbridge.dispatch.breaker import Breaker
from taskbridge.dispatch.counters import Counters, Counting
from taskbridge.dispatch.numbering import Numbering
from taskbridge.dispatch.ordered import Gates, OrderedRoad
from taskbridge.dispatch.outgoing import Outgoing
from taskbridge.dispatch.settling import Begun, Settling, put_aside
from taskbridge.dispatch.throttle import ThrottledLog
from taskbridge.dispatch.traces import Sending, Traces
from taskbridge.exceptions import ConfigurationError, MessageTooLarge, PublishAmbiguous, PublishRefused
from taskbridge.ports import (
    BeginningPublisher,
    BestEffortPublisher,
    CallersOutbox,
    CeleryPublisher,
    Observer,
    PendingStore,
)
from taskbridge.record import SANDBOX, Message, Stamp, encode, size
from taskbridge.routing import bucket
from taskbridge.settings import PublishMode, Settings

logger = logging.getLogger("taskbridge.dispatch")

_NEARLY = 4_096
"""Bytes below the limit from which a record is measured exactly; keys and stamps are shorter."""


class Dispatcher:
    """
    Sends each message where its service's flag says.

    In `mirror` a message goes to Celery, then a copy to the shadow topic. In `live` the keys that were chosen go to
    Kafka, or into the database until they are due; the others to Celery. What Kafka certainly did not take goes to
    Celery at once, or to the outbox once the service is complete; what it may have taken goes to the outbox, under the
    same task id.
    """

    def __init__(
        self,
        settings: Settings,
        flags: FlagCache,
        confirmed: BeginningPublisher,
        best_effort: BestEffortPublisher,
        pending: PendingStore,
        observer: Observer,
        numbering: Numbering | None = None,
        wall: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
        *,
        resender: CeleryPublisher | None = None,
        callers: CallersOutbox | None = None,
        gates: Gates | None = None,
    ) -> None:
        """
        `wall` returns seconds since the epoch, `clock` monotonic seconds.

        `resender` publishes to Celery what Kafka refused when the dispatch had returned; without one it goes to the
        outbox. `callers` is needed for services with `publish="outbox"`, `gates` for ordered ones.
        """
        self.settings = settings
        self.counters = Counters()
        self.numbering = numbering or Numbering()
        self._flags = flags
        self._confirmed = confirmed
        self._best_effort = best_effort
        self._pending = pending
        self._callers = callers
        self._wall = wall
        self._breaker = Breaker(settings.breaker_seconds, clock)
        self._log = ThrottledLog(logger, clock=clock)
        self._traces = Traces(self.counters, observer)
        self._settling = Settling(confirmed, pending, resender, self._breaker, self._traces, self._log)
        self._topics = {name: settings.topic(name) for name in settings.services}
        self._shadow_topics = {name: settings.shadow_topic(name) for name in settings.services}
        self._ordered = (
            None
            if gates is None
            else OrderedRoad(
                settings,
                gates,
                confirmed,
                self._breaker,
                self._traces,
                self.numbering,
                self._log,
                self._send,
                self._copy,
            )
        )
        # The producers registered before, and what is registered last runs first.
        atexit.register(barrier.finish_all)

    def flag(self, service: str, task: str = "") -> Flag:
        """Return the flag that decides for one message: read it once per message, and pass it to `dispatch`."""
        return self._flags.get(service, task)

    def dispatch(self, flag: Flag, outgoing: Outgoing) -> Any:
        """
        Send a message, and return what Celery's publish returned, or None when it went another way.

        Errors of Celery's broker are Celery's own and pass through, and so are those of the caller's own database
        connection with `publish="outbox"`. Raises StoreUnavailable or ConfigurationError when a message had to go into
        the database and could not, ConfigurationError for one that a complete service
        cannot send, and MessageTooLarge for one that is to go to Kafka and that no record can hold.
        """
        if self._ordered is not None and outgoing.service.ordered and (flag.stage is not Stage.OFF or flag.fence):
            return self._ordered.dispatch(Sending(flag, outgoing, self._wall()))
        if flag.stage is Stage.OFF:
            return outgoing.to_celery()
        return self._send(Sending(flag, outgoing, self._wall()))

    def _send(self, sending: Sending) -> Any:
        flag, outgoing = sending.flag, sending.outgoing
        # Where all keys share one fate, none needs to be hashed.
        number = bucket(self.settings.salt, outgoing.key) if flag.basis_points % BASIS_POINTS else 0
        decision = decide(flag, number)
        if decision.kafka:
            return self._kafka(sending)
        if decision.copy:
            return self._mirror(sending, decision.sandbox)
        return self._celery(sending)

    def _celery(self, sending: Sending, stamp: Stamp | None = None, fallback: str = "") -> Any:
        result = sending.outgoing.to_celery()
        stamp = stamp or self._stamp("celery", sending)
        self._traces.note(sending, "celery", stamp, "celery", fallback=fallback)
        return result

    def _mirror(self, sending: Sending, sandbox: bool) -> Any:
        # Celery first, and the number after it: what its broker refused was never dispatched, so it has no copy.
        result = sending.outgoing.to_celery()
        stamp = self._stamp("celery", sending)
        if self._copy(sending.outgoing, stamp, sandbox):
            self._traces.note(sending, "celery", stamp, "celery", "copy_sent", copy="sent")
        else:
            self._traces.note(sending, "celery", stamp, "celery", "copy_lost", copy="lost")
        return result

    def _copy(self, outgoing: Outgoing, stamp: Stamp, sandbox: bool) -> bool:
        try:
            record = encode(outgoing.message(), outgoing.key, stamp, outgoing.traceparent)
            if sandbox:
                record.headers.append(SANDBOX)
            return self._best_effort.offer(self._shadow_topics[outgoing.service.name], record)
        except Exception as error:  # noqa: BLE001 - the task is dispatched already: no copy may turn that into an error
            self._log.warning("copy", "a copy of task %s was lost: %r", outgoing.task, error)
            return False

    def _kafka(self, sending: Sending) -> Any:
        outgoing = sending.outgoing
        if feature := outgoing.unsupported():
            return self._unsupported(sending, feature)
        try:
            message = outgoing.message()
        except (TypeError, ValueError) as error:
            self._log.warning("headers", "task %s stays on Celery: its headers are not JSON: %s", outgoing.task, error)
            return self._unsupported(sending, "headers")
        if too_large := self._too_large(sending, message):
            raise MessageTooLarge(
                f"{_name(sending)} cannot be sent to Kafka: its record of {too_large:,} bytes exceeds "
                f'TASKBRIDGE["max_message_bytes"], {self.settings.max_message_bytes:,}; '
                "send a reference to the data instead, or raise the limit here and on the topic"
            )
        # What follows a failure must not be rolled back with it, nor be in doubt while its task is acknowledged.
        mode: PublishMode = "confirm" if outgoing.retries or outgoing.nesting else outgoing.publish
        if outgoing.due > sending.at:
            return self._delay(sending, message, mode)
        if mode == "outbox":
            return self._join(sending, message)
        return self._publish(sending, message, barrier.current() if mode == "barrier" else None)

    def _publish(self, sending: Sending, message: Message, scope: barrier.Scope | None) -> Any:
        outgoing, service = sending.outgoing, sending.outgoing.service.name
        if not self._breaker.allows():
            return self._not_taken(sending, message, "breaker")
        stamp = self._stamp("kafka", sending)
        record = encode(message, outgoing.key, stamp, outgoing.traceparent)
        try:
            if scope is None:
                self._confirmed.publish(self._topics[service], record)
            else:
                begun = Begun(sending, message, stamp, self._confirmed.begin(self._topics[service], record))
                self.counters.add(service, "barrier")
                if not scope.add(self._settling, begun):
                    self._settling.settle([begun])
                return None
        except PublishRefused as error:
            self._log.warning("refused", "task %s goes to Celery instead of Kafka: %s", outgoing.task, error)
            return self._not_taken(sending, message, "refused", stamp)
        except PublishAmbiguous as error:
            self._settling.ambiguous([Begun(sending, message, stamp, None)], error)
            return None
        self._breaker.succeeded()
        self._traces.note(sending, "kafka", stamp, "kafka")
        return None

    def _not_taken(self, sending: Sending, message: Message, why: Counting, stamp: Stamp | None = None) -> Any:
        """Send by the next road what Kafka certainly does not have."""
        if sending.flag.stage is not Stage.COMPLETE:
            return self._fall_back(sending, why, why, stamp)
        stamp = stamp or self._stamp("kafka", sending)
        self._pending.outbox(put_aside(sending.outgoing, message, stamp, sending.at))
        self._traces.note(sending, "delayed", stamp, why, "outbox", due=sending.at)
        return None

    def _fall_back(self, sending: Sending, why: Counting, fallback: str, stamp: Stamp | None = None) -> Any:
        self.counters.add(sending.outgoing.service.name, why)
        return self._celery(sending, stamp, fallback)

    def _unsupported(self, sending: Sending, feature: str) -> Any:
        if sending.flag.stage is Stage.COMPLETE:
            raise ConfigurationError(
                f"{_name(sending)} cannot be sent: only Celery's worker can do what it asks for ({feature}), and "
                f"service {sending.outgoing.service.name!r} is complete; send it without, or move that back to live"
            )
        return self._fall_back(sending, "unsupported", f"unsupported:{feature}")

    def _too_large(self, sending: Sending, message: Message) -> int:
        """Return the bytes of a record that is above the limit, else 0."""
        limit = self.settings.max_message_bytes
        found = len(message.body) + len(message.headers) + len(message.properties)
        if found <= limit - _NEARLY:
            return 0
        stamp = Stamp("kafka", sending.flag.epoch, self.numbering.source, 10**12)
        found = size(encode(message, sending.outgoing.key, stamp, sending.outgoing.traceparent))
        return found if found > limit else 0

    def _delay(self, sending: Sending, message: Message, mode: PublishMode) -> None:
        due = sending.outgoing.due
        if mode == "outbox":
            self._add_to_callers(sending, message, "delayed", due)
            return
        stamp = self._stamp("delayed", sending)
        self._pending.delay(put_aside(sending.outgoing, message, stamp, due))
        self._traces.note(sending, "delayed", stamp, "delayed")

    def _join(self, sending: Sending, message: Message) -> None:
        self._add_to_callers(sending, message, "outbox", sending.at)

    def _add_to_callers(self, sending: Sending, message: Message, table: Any, due: float) -> None:
        service = sending.outgoing.service
        if self._callers is None:
            raise ConfigurationError(
                f'service {service.name!r} is published by "outbox", for which this process has no database'
            )

        def kept() -> None:
            # The number only now: one that is rolled back with the caller would look like a dispatch that was lost.
            self._traces.note(sending, "delayed", self._stamp("delayed", sending), table, due=due)

        unnumbered = Stamp("delayed", sending.flag.epoch, self.numbering.source, 0)
        row = put_aside(sending.outgoing, message, unnumbered, due)
        self._callers.add(service.outbox_database or self.settings.database, table, row, kept)

    def _stamp(self, route: str, sending: Sending) -> Stamp:
        return Stamp(route, sending.flag.epoch, *self.numbering.next(sending.outgoing.service.name))


def _name(sending: Sending) -> str:
    return f"task {sending.outgoing.task}[{sending.outgoing.task_id}]"
