"""How publishes end: acknowledged, refused, or so that nobody knows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from taskbridge.cutover import Stage
from taskbridge.dispatch.breaker import Breaker
from taskbridge.dispatch.outgoing import Outgoing
from taskbridge.dispatch.throttle import ThrottledLog
from taskbridge.dispatch.traces import Sending, Traces
from taskbridge.exceptions import (
    BrokerUnavailable,
    ConfigurationError,
    MalformedRecord,
    PublishAmbiguous,
    PublishError,
    StoreUnavailable,
)
from taskbridge.ports import BeginningPublisher, CeleryPublisher, PendingMessage, PendingStore, Road
from taskbridge.record import Message, Stamp

NAMED = 5
"""Tasks that an error names; the others are counted."""


@dataclass(slots=True)
class Begun:
    """A publish; `handle` is what the publisher's `begin` returned."""

    sending: Sending
    message: Message
    stamp: Stamp
    handle: Any


class Settling:
    """A barrier's Settler: sees to it that every message is with somebody who will not lose it."""

    def __init__(
        self,
        confirmed: BeginningPublisher,
        pending: PendingStore,
        resender: CeleryPublisher | None,
        breaker: Breaker,
        traces: Traces,
        log: ThrottledLog,
    ) -> None:
        self._confirmed = confirmed
        self._pending = pending
        self._resender = resender
        self._breaker = breaker
        self._traces = traces
        self._log = log

    def settle(self, begun: Sequence[Begun]) -> None:
        """
        Wait for publishes that were begun, and act on how they end.

        Raises PublishAmbiguous for messages that Kafka may not have and that could not be put aside either.
        """
        handles = [one.handle for one in begun]
        try:
            outcomes = self._confirmed.end(handles)
        except BaseException:
            # A time limit, or somebody at the keyboard: what is not acknowledged by now is put aside.
            self._act(begun, self._confirmed.end(handles, 0.0))
            raise
        self._act(begun, outcomes)

    def _act(self, begun: Sequence[Begun], outcomes: Sequence[PublishError | None]) -> None:
        doubtful: list[Begun] = []
        refused: list[tuple[Begun, PublishError]] = []
        doubt: PublishError | None = None
        acknowledged = [one for one, error in zip(begun, outcomes, strict=True) if error is None]
        if acknowledged:
            self._breaker.succeeded()
            self._traces.note_kafka([(one.sending, one.stamp) for one in acknowledged])
        for one, error in zip(begun, outcomes, strict=True):
            if error is None:
                continue
            if isinstance(error, PublishAmbiguous):
                doubtful.append(one)
                doubt = error
            else:
                refused.append((one, error))
        failures: list[str] = []
        if doubt is not None:
            try:
                self.ambiguous(doubtful, doubt)
            except (StoreUnavailable, ConfigurationError) as error:
                failures.append(_lost(doubtful, doubt, error))
        if refused:
            failures.extend(self._refused(refused))
        if failures:
            raise PublishAmbiguous("; ".join(failures))

    def ambiguous(self, begun: Sequence[Begun], error: PublishError) -> None:
        """
        Put aside what Kafka may have, under the same ids, and leave Kafka alone for a while.

        Raises StoreUnavailable or ConfigurationError when it cannot be put aside.
        """
        self._breaker.failed()
        for one in begun:
            self._traces.counters.add(one.sending.outgoing.service.name, "ambiguous")
            self._log.warning("ambiguous", "task %s goes to the outbox: %s", one.sending.outgoing.task, error)
        self._pending.outbox_many(
            [
                replace(put_aside(one.sending.outgoing, one.message, one.stamp, one.sending.at), attempts=1)
                for one in begun
            ]
        )
        for one in begun:
            self._traces.note(one.sending, "kafka", one.stamp, "kafka", ambiguous=1)

    def _refused(self, refused: Sequence[tuple[Begun, PublishError]]) -> list[str]:
        """Send what Kafka certainly does not have to Celery, else to the outbox; return what failed."""
        celery_is_away = self._resender is None
        doubted: Begun | None = None
        left: list[tuple[Begun, PublishError]] = []
        for one, error in refused:
            outgoing = one.sending.outgoing
            self._traces.counters.add(outgoing.service.name, "refused")
            if celery_is_away or one.sending.flag.stage is Stage.COMPLETE or self._resender is None:
                left.append((one, error))
                continue
            self._log.warning("refused", "task %s goes to Celery instead of Kafka: %s", outgoing.task, error)
            try:
                self._resender.publish(one.message)
            except (BrokerUnavailable, MalformedRecord) as away:
                self._log.warning("resend", "task %s goes to the outbox: %s", outgoing.task, away)
                celery_is_away = isinstance(away, BrokerUnavailable)
                doubted = one if celery_is_away else doubted
                left.append((one, error))
            else:
                self._traces.note(one.sending, "celery", one.stamp, "celery", fallback="refused")
        return self._keep(left, doubted)

    def _keep(self, left: Sequence[tuple[Begun, PublishError]], doubted: Begun | None) -> list[str]:
        if not left:
            return []
        rows = []
        for one, _ in left:
            # Kafka does not have them, so that either road is open, as long as there are two.
            road: Road = "kafka" if one.sending.flag.stage is Stage.COMPLETE else "any"
            row = put_aside(one.sending.outgoing, one.message, one.stamp, one.sending.at)
            if one is doubted:
                # Celery's broker went away while it was given this one, and may have it.
                rows.append(replace(row, road="celery-again", attempts=1))
            else:
                rows.append(replace(row, road=road))
        try:
            self._pending.outbox_many(rows)
        except (StoreUnavailable, ConfigurationError) as error:
            return [_lost([one for one, _ in left], left[0][1], error)]
        for one, _ in left:
            self._traces.note(one.sending, "delayed", one.stamp, "outbox", due=one.sending.at)
        return []


def put_aside(outgoing: Outgoing, message: Message, stamp: Stamp, due: float) -> PendingMessage:
    """Return the row of a message that leaves at `due` (seconds since the epoch), or as soon as it can after that."""
    return PendingMessage(
        service=outgoing.service.name,
        key=outgoing.key,
        message=message,
        due=datetime.fromtimestamp(due, UTC),
        epoch=stamp.epoch,
        producer=stamp.producer,
        seq=stamp.seq,
        countdown=outgoing.countdown,
    )


def _lost(begun: Sequence[Begun], cause: Exception, error: Exception) -> str:
    names = ", ".join(f"{one.message.task}[{one.message.task_id}]" for one in begun[:NAMED])
    more = f" and {len(begun) - NAMED} more" if len(begun) > NAMED else ""
    return f"{len(begun)} dispatches may be lost, {names}{more}: {cause}, and the outbox cannot be written: {error}"
