"""In-memory doubles of the ports, for tests of this package and of projects that use it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from threading import Lock
from typing import Any, Literal

from taskbridge.cutover import Fence, Flag, Stage
from taskbridge.exceptions import PublishError, StoreUnavailable, TaskbridgeError
from taskbridge.observation import Batch, Row
from taskbridge.ports import PendingMessage
from taskbridge.record import Message, Record
from taskbridge.settings import KafkaSettings, ServiceSettings, Settings


def settings(*services: ServiceSettings, **options: Any) -> Settings:
    """Return settings for these services with a broker that nothing listens for."""
    return Settings(
        kafka=KafkaSettings("localhost:1"), services={service.name: service for service in services}, **options
    )


class FakeFlags:
    """A FlagStore that a test sets; `reads` counts the looks."""

    def __init__(self) -> None:
        self._flags: dict[tuple[str, str], Flag] = {}
        self._version = 0
        self.reads = 0
        self.available = True

    def set(
        self, service: str, stage: Stage, basis_points: int = 0, task: str = "", fence: Fence | None = None
    ) -> Flag:
        """Move a service, or a single task of it, as a transition would."""
        return self._put(Flag(service, stage, basis_points, task=task, fence=fence))

    def clear(self, service: str, task: str) -> Flag:
        """Let the service's flag decide for a task again."""
        return self._put(Flag(service, Stage.OFF, task=task, cleared=True))

    def _put(self, flag: Flag) -> Flag:
        self._version += 1
        before = self._flags.get((flag.service, flag.task))
        flag = replace(flag, epoch=before.epoch + 1 if before else 1, version=self._version)
        self._flags[flag.service, flag.task] = flag
        return flag

    def flags_since(self, version: int) -> Sequence[Flag]:
        """Return the flags set after `version`; raise StoreUnavailable while not `available`."""
        self.reads += 1
        if not self.available:
            raise StoreUnavailable("the flags of this test are switched off")
        return [flag for flag in self._flags.values() if flag.version > version]


class FakePublisher:
    """A ConfirmedPublisher and BestEffortPublisher that keeps records; set `error` to make it fail."""

    def __init__(self, before: Callable[[str, Record], None] | None = None) -> None:
        """`before` is called ahead of each record, and may raise."""
        self.records: list[tuple[str, Record]] = []
        self.error: PublishError | None = None
        self.room: float = float("inf")
        self._before = before

    def publish(self, topic: str, record: Record) -> None:
        """Keep the record, or raise `error`."""
        if self._before is not None:
            self._before(topic, record)
        if self.error is not None:
            raise self.error
        self.records.append((topic, record))

    def begin(self, topic: str, record: Record) -> PublishError | None:
        """Keep the record; return what `end` is to say of it: `error`, or the PublishError that `before` raised."""
        try:
            self.publish(topic, record)
        except PublishError as error:
            return error
        return None

    def end(self, begun: Sequence[PublishError | None], timeout: float | None = None) -> list[PublishError | None]:  # noqa: ARG002
        """Return how the publishes ended."""
        return list(begun)

    def publish_many(self, records: Sequence[tuple[str, Record]]) -> list[PublishError | None]:
        """Keep the records; return for each what `publish` would have raised."""
        outcomes: list[PublishError | None] = []
        for topic, record in records:
            try:
                self.publish(topic, record)
            except PublishError as error:
                outcomes.append(error)
            else:
                outcomes.append(None)
        return outcomes

    def offer(self, topic: str, record: Record) -> bool:
        """Keep the record while there is `room`."""
        if len(self.records) >= self.room:
            return False
        self.records.append((topic, record))
        return True


class FakePending:
    """A PendingStore and CallersOutbox in two lists; set `error` to make it fail."""

    def __init__(self) -> None:
        self.delayed: list[PendingMessage] = []
        self.outboxed: list[PendingMessage] = []
        self.error: TaskbridgeError | None = None

    def delay(self, pending: PendingMessage) -> None:
        """Keep the message, or raise `error`."""
        self._keep(self.delayed, pending)

    def outbox(self, pending: PendingMessage) -> None:
        """Keep the message, or raise `error`."""
        self._keep(self.outboxed, pending)

    def outbox_many(self, pending: Sequence[PendingMessage]) -> None:
        """Keep the messages, or raise `error`."""
        for one in pending:
            self._keep(self.outboxed, one)

    def add(
        self,
        alias: str,  # noqa: ARG002
        table: Literal["outbox", "delayed"],
        pending: PendingMessage,
        kept: Callable[[], None],
    ) -> None:
        """Keep the message as if the caller's transaction were committed at once, or raise `error`."""
        self._keep(self.outboxed if table == "outbox" else self.delayed, pending)
        kept()

    def _keep(self, messages: list[PendingMessage], pending: PendingMessage) -> None:
        if self.error is not None:
            raise self.error
        messages.append(pending)


class FakeResender:
    """A CeleryPublisher that keeps messages."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    def publish(self, message: Message) -> None:
        """Keep the message."""
        self.messages.append(message)


class RecordingObserver:
    """A DeliveringObserver that keeps batches."""

    def __init__(self) -> None:
        self._lock = Lock()
        self.batches: list[Batch] = []

    def observe(self, batch: Batch) -> None:
        """Keep the batch."""
        with self._lock:
            self.batches.append(batch)

    def deliver(self, timeout: float) -> bool:  # noqa: ARG002
        """Say that everything has arrived."""
        return True

    @property
    def rows(self) -> list[Row]:
        """All rows in the order in which they came."""
        return [row for batch in self.batches for row in batch.rows]
