"""Moving what waits on one side of a service to the other, under the same task ids."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Literal

from celery.utils.time import maybe_make_aware

from taskbridge.adapters.celery.taking import OpenQueues, QueueTaker, Taken
from taskbridge.adapters.kafka.drain import TopicDrain
from taskbridge.contrib.django.fences import on_kafka
from taskbridge.cutover import BASIS_POINTS, Flag, Stage
from taskbridge.exceptions import ConfigurationError, MalformedRecord, PublishAmbiguous, PublishRefused
from taskbridge.observation import Batch, DispatchRoute, DispatchRow
from taskbridge.ports import PendingMessage
from taskbridge.record import Message, Stamp, decode, encode
from taskbridge.worker.channel import Verdict
from taskbridge.worker.entry import Entry
from taskbridge.worker.letters import dead_letter

if TYPE_CHECKING:
    from taskbridge.contrib.django.wiring import Bridge

Side = Literal["celery", "kafka"]


@dataclass(slots=True)
class Drained:
    """
    What a drain came to.

    `moved` were handed to the other side, `delayed` put aside until their ETA, `dead` dead-lettered because they cannot
    be read. `outbox` messages wait for the relay; `with_workers` are with Celery workers, which keep them until they
    run; `unsupported` can be executed by Celery only.
    """

    moved: int = 0
    delayed: int = 0
    dead: int = 0
    outbox: int = 0
    with_workers: int = 0
    unsupported: int = 0

    @property
    def complete(self) -> bool:
        """Whether nothing of the service is left behind."""
        return not (self.outbox or self.with_workers or self.unsupported)


class Drain:
    """One drain of one service; `told` hears how many more messages have been moved."""

    def __init__(self, bridge: Bridge, service: str, told: Callable[[int], None] = lambda _: None) -> None:
        """Raises ConfigurationError when there is no such service."""
        self._bridge = bridge
        self._settings = bridge.settings
        self._service = bridge.settings.service(service)
        self._told = told
        self._result = Drained()

    def waiting(self, to: Side) -> int:
        """Return how many messages a drain to `to` would move, after the same checks."""
        self._check(to)
        if to == "celery":
            return TopicDrain(self._settings, self._service.name).left()
        with self._taker().open() as queues:
            return len(queues.look().movable)

    def _flag(self) -> Flag:
        state = self._bridge.store.flag_states().get(self._service.name)
        return state.flag if state else Flag(self._service.name, Stage.OFF)

    def _check(self, to: Side) -> Flag:
        """Raise ConfigurationError while new messages of the service may go to the side that is to be emptied."""
        flag, name = self._flag(), self._service.name
        if to == "celery":
            if on_kafka(flag):
                raise ConfigurationError(
                    f"service {name!r} is {flag.stage}, so that new messages go to Kafka: bring it back first, with"
                    f" `taskbridge kill {name}`"
                )
            TopicDrain(self._settings, name).check_alone()
            return flag
        if on_kafka(flag) < BASIS_POINTS:
            raise ConfigurationError(
                f"service {name!r} is {flag.stage}, so that new messages go to Celery: move it to live 100% first"
            )
        if self._service.ordered and not self._taker().silent():
            raise ConfigurationError(
                f"service {name!r} is ordered, and a Celery worker may be executing its messages: stop Celery's workers"
                f" first, or let them finish, after which its keys go on by themselves"
            )
        return flag

    def _taker(self) -> QueueTaker:
        return QueueTaker(self._bridge.app, self._settings, self._service.name)

    # Kafka to Celery

    def to_celery(self, timeout: float) -> Drained:
        """
        Hand the records that nobody has executed to Celery's broker.

        Raises ConfigurationError while the service has workers or sends to Kafka, BrokerUnavailable when a server does
        not answer; it may then be repeated.
        """
        flag = self._check("celery")

        def deliver(entry: Entry) -> None:
            try:
                message, _ = decode(entry.value, entry.headers)
                self._bridge.resender.publish(message)
            except MalformedRecord as error:
                letter = dead_letter(
                    entry,
                    Verdict(-1, "dead", error.reason, str(error), ""),
                    self._settings.topic(self._service.name),
                    time.time(),
                )
                self._bridge.confirmed.publish(self._settings.dead_letter_topic(self._service.name), letter)
                self._result.dead += 1
                return
            self._result.moved += 1
            self._observe(flag, message, (entry.key or b"").decode(errors="replace"), "celery")

        TopicDrain(self._settings, self._service.name).run(deliver, self._told, timeout)
        self._result.outbox = self._bridge.store.pending_counts()["outbox"].get(self._service.name, 0)
        return self._result

    # Celery to Kafka

    def to_kafka(self, timeout: float) -> Drained:
        """
        Publish what is queued at Celery's broker to Kafka; what has an ETA is put aside until then.

        Raises ConfigurationError unless the service sends everything to Kafka, PublishError or BrokerUnavailable when a
        server does not answer; it may then be repeated. `timeout` is in seconds, for the whole.
        """
        flag, deadline = self._check("kafka"), time.monotonic() + timeout
        with self._taker().open() as queues:
            contents = queues.look()
            while contents.movable and time.monotonic() < deadline:
                for waiting, key in contents.movable:
                    taken = queues.take(waiting, key)
                    if taken is not None:
                        self._publish(queues, taken, flag)
                        self._told(1)
                contents = queues.look()
            self._result.with_workers = contents.with_workers
            self._result.unsupported = contents.unsupported
        if contents.movable:
            raise ConfigurationError(
                f"{len(contents.movable)} messages of service {self._service.name!r} are still queued after"
                f" {timeout:g} s: repeat, with a longer --timeout"
            )
        return self._result

    def _publish(self, queues: OpenQueues, taken: Taken, flag: Flag) -> None:
        message, service = taken.waiting.message, self._service.name
        stamp = Stamp("kafka", flag.epoch, *self._bridge.numbering.next(service))
        due = self._due(taken.due)
        if due is not None and due.timestamp() > time.time():
            self._bridge.store.delay(self._pending(taken, flag, stamp, due))
            queues.acknowledge(taken)
            self._result.delayed += 1
            self._note(flag, message, taken.key, "delayed", due.timestamp())
            return
        try:
            self._bridge.confirmed.publish(self._settings.topic(service), encode(message, taken.key, stamp))
        except PublishRefused:
            queues.put_back(taken)
            raise
        except PublishAmbiguous:
            # Kafka may have it, so that only Kafka may be given it again, and the relay does that.
            row = self._pending(taken, flag, stamp, datetime.now(UTC))
            self._bridge.store.outbox(replace(row, attempts=1))
            queues.acknowledge(taken)
            self._note(flag, message, taken.key, "kafka", ambiguous=1)
            raise
        queues.acknowledge(taken)
        self._result.moved += 1
        self._observe(flag, message, taken.key, "kafka")

    def _due(self, eta: str) -> datetime | None:
        try:
            moment = datetime.fromisoformat(eta)
        except ValueError:
            return None
        aware: datetime = maybe_make_aware(moment, self._bridge.app.timezone)
        return aware

    def _pending(self, taken: Taken, flag: Flag, stamp: Stamp, due: datetime) -> PendingMessage:
        return PendingMessage(
            self._service.name,
            taken.key,
            taken.waiting.message,
            due,
            flag.epoch,
            stamp.producer,
            stamp.seq,
        )

    # What is written down

    def _observe(self, flag: Flag, message: Message, key: str, side: Side) -> None:
        # Put aside and sent again: whoever compares expects one execution still, on either side.
        self._note(flag, message, key, "delayed")
        self._note(flag, message, key, side)

    def _note(
        self, flag: Flag, message: Message, key: str, route: DispatchRoute, due: float = 0.0, ambiguous: int = 0
    ) -> None:
        if not self._service.observe:
            return
        source, seq = self._bridge.numbering.next(self._service.name)
        row = DispatchRow(
            *message.identity(),
            task=message.task,
            key=key,
            route=route,
            epoch=flag.epoch,
            seq=seq,
            at=time.time(),
            copy="none",
            body=sha256(message.body).hexdigest()[:16],
            stage=flag.stage.value,
            ambiguous=ambiguous,
            fallback="drained" if route == "celery" else "",
            due=due,
        )
        self._bridge.observer.observe(Batch("dispatch", self._service.name, source, (row,)))
