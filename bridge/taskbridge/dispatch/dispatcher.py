"""
The decision for one message, and its consequences.

Nothing here may lose a message, run it twice without counting that, or let a failure of Kafka reach a caller whose
service is not live.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from taskbridge.cutover import Flag, FlagCache, Stage, decide
from taskbridge.dispatch.breaker import Breaker
from taskbridge.dispatch.counters import Counters, Counting
from taskbridge.dispatch.numbering import Numbering
from taskbridge.dispatch.outgoing import Outgoing
from taskbridge.dispatch.throttle import ThrottledLog
from taskbridge.exceptions import PublishAmbiguous, PublishRefused
from taskbridge.observation import Batch, CopyState, DispatchRoute, DispatchRow
from taskbridge.ports import BestEffortPublisher, ConfirmedPublisher, Observer, PendingMessage, PendingStore
from taskbridge.record import Message, Stamp, encode
from taskbridge.routing import bucket
from taskbridge.settings import Settings

logger = logging.getLogger("taskbridge.dispatch")


class Dispatcher:
    """
    Sends each message where its service's flag says.

    In `mirror` a message goes to Celery, then a copy to the shadow topic. In `live` the keys that were chosen go to
    Kafka, confirmed, or into the database until they are due; the others to Celery. What Kafka certainly did not take
    goes to Celery at once; what it may have taken goes to the outbox, under the same task id.
    """

    def __init__(
        self,
        settings: Settings,
        flags: FlagCache,
        confirmed: ConfirmedPublisher,
        best_effort: BestEffortPublisher,
        pending: PendingStore,
        observer: Observer,
        numbering: Numbering | None = None,
        wall: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`wall` returns seconds since the epoch, `clock` monotonic seconds."""
        self.settings = settings
        self.counters = Counters()
        self.numbering = numbering or Numbering()
        self._flags = flags
        self._confirmed = confirmed
        self._best_effort = best_effort
        self._pending = pending
        self._observer = observer
        self._wall = wall
        self._breaker = Breaker(settings.breaker_seconds, clock)
        self._log = ThrottledLog(logger, clock=clock)
        self._topics = {name: settings.topic(name) for name in settings.services}
        self._shadow_topics = {name: settings.shadow_topic(name) for name in settings.services}

    def flag(self, service: str, task: str = "") -> Flag:
        """Return the flag that decides for one message: read it once per message, and pass it to `dispatch`."""
        return self._flags.get(service, task)

    def dispatch(self, flag: Flag, outgoing: Outgoing) -> Any:
        """
        Send a message, and return what Celery's publish returned, or None when it went another way.

        Errors of Celery's broker are Celery's own and pass through. Raises StoreUnavailable or ConfigurationError when
        a message had to go into the database and could not.
        """
        if flag.stage is Stage.OFF:
            return outgoing.to_celery()
        decision = decide(flag, bucket(self.settings.salt, outgoing.key))
        if decision.kafka:
            return self._live(flag, outgoing)
        if decision.copy:
            return self._mirror(flag, outgoing)
        return self._celery(flag, outgoing, self._wall())

    def _celery(self, flag: Flag, outgoing: Outgoing, at: float, stamp: Stamp | None = None, fallback: str = "") -> Any:
        result = outgoing.to_celery()
        service = outgoing.service.name
        self.counters.add(service, "celery")
        stamp = stamp or Stamp("celery", flag.epoch, *self.numbering.next(service))
        self._observe(flag, outgoing, at, "celery", stamp, fallback=fallback)
        return result

    def _mirror(self, flag: Flag, outgoing: Outgoing) -> Any:
        service, at = outgoing.service.name, self._wall()
        # Celery first, and the number after it: what its broker refused was never dispatched, so it has no copy.
        result = outgoing.to_celery()
        stamp = Stamp("celery", flag.epoch, *self.numbering.next(service))
        copied = self._copy(outgoing, stamp)
        self.counters.add(service, "celery", "copy_sent" if copied else "copy_lost")
        self._observe(flag, outgoing, at, "celery", stamp, copy="sent" if copied else "lost")
        return result

    def _copy(self, outgoing: Outgoing, stamp: Stamp) -> bool:
        try:
            record = encode(outgoing.message(), outgoing.key, stamp, outgoing.traceparent)
            return self._best_effort.offer(self._shadow_topics[outgoing.service.name], record)
        except Exception as error:  # noqa: BLE001 - the task is dispatched already: no copy may turn that into an error
            self._log.warning("copy", "a copy of task %s was lost: %r", outgoing.task, error)
            return False

    def _live(self, flag: Flag, outgoing: Outgoing) -> Any:
        service, at = outgoing.service.name, self._wall()
        if feature := outgoing.unsupported():
            return self._fall_back(flag, outgoing, at, "unsupported", f"unsupported:{feature}")
        try:
            message = outgoing.message()
        except (TypeError, ValueError) as error:
            self._log.warning("headers", "task %s stays on Celery: its headers are not JSON: %s", outgoing.task, error)
            return self._fall_back(flag, outgoing, at, "unsupported", "unsupported:headers")
        if outgoing.due > at:
            return self._delay(flag, outgoing, message, at)
        if not self._breaker.allows():
            return self._fall_back(flag, outgoing, at, "breaker", "breaker")
        stamp = Stamp("kafka", flag.epoch, *self.numbering.next(service))
        try:
            record = encode(message, outgoing.key, stamp, outgoing.traceparent)
            self._confirmed.publish(self._topics[service], record)
        except PublishRefused as error:
            self._log.warning("refused", "task %s goes to Celery instead of Kafka: %s", outgoing.task, error)
            return self._fall_back(flag, outgoing, at, "refused", "refused", stamp)
        except PublishAmbiguous as error:
            self._breaker.failed()
            self.counters.add(service, "ambiguous")
            self._log.warning("ambiguous", "task %s goes to the outbox: %s", outgoing.task, error)
            self._pending.outbox(replace(self._put_aside(outgoing, message, stamp, at), attempts=1))
            ambiguous = 1
        else:
            self._breaker.succeeded()
            ambiguous = 0
        self.counters.add(service, "kafka")
        self._observe(flag, outgoing, at, "kafka", stamp, ambiguous=ambiguous)
        return None

    def _fall_back(
        self, flag: Flag, outgoing: Outgoing, at: float, why: Counting, fallback: str, stamp: Stamp | None = None
    ) -> Any:
        self.counters.add(outgoing.service.name, why)
        return self._celery(flag, outgoing, at, stamp, fallback)

    def _delay(self, flag: Flag, outgoing: Outgoing, message: Message, at: float) -> None:
        service = outgoing.service.name
        stamp = Stamp("delayed", flag.epoch, *self.numbering.next(service))
        self._pending.delay(self._put_aside(outgoing, message, stamp, outgoing.due))
        self.counters.add(service, "delayed")
        self._observe(flag, outgoing, at, "delayed", stamp)

    def _put_aside(self, outgoing: Outgoing, message: Message, stamp: Stamp, due: float) -> PendingMessage:
        return PendingMessage(
            service=outgoing.service.name,
            key=outgoing.key,
            message=message,
            due=datetime.fromtimestamp(due, UTC),
            epoch=stamp.epoch,
            producer=stamp.producer,
            seq=stamp.seq,
        )

    def _observe(
        self,
        flag: Flag,
        outgoing: Outgoing,
        at: float,
        route: DispatchRoute,
        stamp: Stamp,
        copy: CopyState = "none",
        ambiguous: int = 0,
        fallback: str = "",
    ) -> None:
        service = outgoing.service
        if not service.observe:
            return
        row = DispatchRow(
            id=outgoing.task_id,
            retries=outgoing.retries,
            nesting=outgoing.nesting,
            task=outgoing.task,
            key=outgoing.key,
            route=route,
            epoch=flag.epoch,
            seq=stamp.seq,
            at=at,
            copy=copy,
            body=sha256(outgoing.body).hexdigest()[:16],
            stage=flag.stage.value,
            ambiguous=ambiguous,
            fallback=fallback,
            due=outgoing.due,
        )
        self._observer.observe(Batch("dispatch", service.name, stamp.producer, (row,)))
