"""What the core needs of the outside world; adapters provide it, tests fake it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Literal, Protocol

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


Road = Literal["kafka", "any", "held"]


@dataclass(frozen=True, slots=True)
class PendingMessage:
    """
    A message that waits in the database.

    `due` is an aware datetime; `epoch`, `producer` and `seq` are those of the dispatch that put the message aside. In
    the outbox `road` says where it may go: to Kafka only, where the flag says when it is sent (`any`), or nowhere while
    its key changes side (`held`); `attempts` counts publishes of which nobody knows how they ended.
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


class PendingStore(Protocol):
    """Keeps messages in the database, over a connection of its own, committed at once."""

    def delay(self, pending: PendingMessage) -> None:
        """Keep a message until it is due; raise StoreUnavailable, or ConfigurationError when the table is full."""
        ...

    def outbox(self, pending: PendingMessage) -> None:
        """Keep a message that Kafka may or may not have; the relay sends it again, to Kafka only."""
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
