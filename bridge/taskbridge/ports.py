"""What the core needs of the outside world; adapters provide it, tests fake it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, Protocol

from taskbridge.exceptions import PublishError
from taskbridge.observation import Batch
from taskbridge.record import Message, Record

if TYPE_CHECKING:
    from taskbridge.cutover import Flag


class FlagStore(Protocol):
    """Reads flags over a connection of its own, never the caller's."""

    def flags_since(self, version: int) -> Sequence[Flag]:
        """Return the flags whose version is above `version`; raise StoreUnavailable within about 200 ms."""
        ...


class ConfirmedPublisher(Protocol):
    """Publishes records that must not be lost."""

    def publish(self, topic: str, record: Record) -> None:
        """
        Return once the broker has acknowledged the record.

        Raises PublishRefused when the broker certainly does not have it, PublishAmbiguous when it may.
        """
        ...


class BeginningPublisher(ConfirmedPublisher, Protocol):
    """Publishes records that must not be lost, also such that nobody waits for yet."""

    def begin(self, topic: str, record: Record) -> Any:
        """Return what `end` takes, without waiting for the broker; raise PublishRefused."""
        ...

    def end(self, begun: Sequence[Any], timeout: float | None = None) -> Sequence[PublishError | None]:
        """
        Wait for publishes that were begun, for their own time limit or at most `timeout` seconds.

        Returns for each None, once the broker has acknowledged it, or what `publish` would have raised. Whoever stops
        the wait by an exception may call it again.
        """
        ...


class ManyPublisher(Protocol):
    """Publishes records that must not be lost, many at a time."""

    def publish_many(self, records: Sequence[tuple[str, Record]]) -> Sequence[PublishError | None]:
        """
        Publish (topic, record) pairs and wait for all of them.

        Returns for each None, once the broker has acknowledged it, or the PublishRefused or PublishAmbiguous that
        `ConfirmedPublisher.publish` would have raised.
        """
        ...


class BestEffortPublisher(Protocol):
    """Publishes copies and observations: bounded, never blocks, never raises; what is lost is counted."""

    def offer(self, topic: str, record: Record) -> bool:
        """Take the record for sending, or return False when it is lost already."""
        ...


class Observer(Protocol):
    """Takes observations."""

    def observe(self, batch: Batch) -> None:
        """Send the batch on its way, best effort."""
        ...


class DeliveringObserver(Observer, Protocol):
    """An observer that can be asked to have done with it."""

    def deliver(self, timeout: float) -> bool:
        """Return whether all that was observed is in the log, waiting at most `timeout` seconds; never raises."""
        ...


Road = Literal["kafka", "any", "held", "kafka-again", "celery-again"]


@dataclass(frozen=True, slots=True)
class PendingMessage:
    """
    A message that waits in the database.

    `due` is an aware datetime; `epoch`, `producer` and `seq` are those of the dispatch that put the message aside. In
    the outbox `road` says where it may go: to Kafka only, where the flag says when it is sent (`any`), or nowhere while
    its key changes side (`held`), or, once the relay does not know whether a side has it, there again (`kafka-again`,
    `celery-again`); `attempts` counts publishes of which nobody knows how they ended.
    With a `countdown` it is due in so many seconds by the database's clock, whatever `due` is by the dispatcher's.
    """

    service: str
    key: str
    message: Message
    due: datetime
    epoch: int = 0
    producer: str = ""
    seq: int = 0
    road: Road = "kafka"
    attempts: int = 0
    countdown: float | None = None


class PendingStore(Protocol):
    """Keeps messages in the database, over a connection of its own, committed at once."""

    def delay(self, pending: PendingMessage) -> None:
        """Keep a message until it is due; raise StoreUnavailable, or ConfigurationError when the table is full."""
        ...

    def outbox(self, pending: PendingMessage) -> None:
        """Keep a message that Kafka may or may not have; the relay sends it again, to Kafka only."""
        ...

    def outbox_many(self, pending: Sequence[PendingMessage]) -> None:
        """Keep all of these messages for the relay, or none; raises as `delay` does."""
        ...


class CallersOutbox(Protocol):
    """Keeps messages in the transaction that the caller is in, over the caller's own connection."""

    def add(
        self, alias: str, table: Literal["outbox", "delayed"], pending: PendingMessage, kept: Callable[[], None]
    ) -> None:
        """
        Write a row that exists if and when the caller's transaction commits, and call `kept` then.

        Errors of the caller's own connection pass through. Raises ConfigurationError when the table is full or absent,
        StoreUnavailable when it cannot be told how full it is.
        """
        ...


class CeleryPublisher(Protocol):
    """Publishes a message to Celery's broker exactly as it was serialized at dispatch."""

    def publish(self, message: Message) -> None:
        """Return once Celery's broker took the message; raise BrokerUnavailable."""
        ...


class ObservationLog(Protocol):
    """Reads what was observed."""

    def read(self, service: str, since: float | None = None) -> Iterable[Batch]:
        """Yield the batches of a service from `since` (seconds since the epoch) to the log's present end."""
        ...


@dataclass(frozen=True, slots=True)
class Assessment:
    """
    Whether a service may go further, as far as its observations tell.

    `sentence` is for a person; `figures` are what it rests on, as JSON types.
    """

    state: Literal["READY", "NOT_READY", "INSUFFICIENT"]
    sentence: str
    figures: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ready(self) -> bool:
        """Whether the evidence suffices; no evidence never does."""
        return self.state == "READY"

    def document(self) -> dict[str, Any]:
        """Return the assessment as JSON types."""
        return {"state": self.state, "sentence": self.sentence, "figures": dict(self.figures)}


class Readiness(Protocol):
    """Judges by what was observed."""

    def assess(self, service: str, task: str = "") -> Assessment:
        """Return the verdict on a service, or on one task of it; what cannot be asked is INSUFFICIENT, never raised."""
        ...
