"""What one process sees of the servers; each port lets the process die between two of its steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from taskbridge.cutover import Flag
from taskbridge.exceptions import BrokerUnavailable, PublishAmbiguous, PublishError, PublishRefused, StoreUnavailable
from taskbridge.ports import PendingMessage, Road
from taskbridge.record import Message, Record
from taskbridge.relay import Table
from tests.unit.machine.database import Database, Row, holding
from tests.unit.machine.servers import Begun, Celery, Kafka, Process


class FlagPort:
    """A FlagStore."""

    def __init__(self, process: Process, database: Database) -> None:
        self._process = process
        self._database = database

    def flags_since(self, version: int) -> Sequence[Flag]:
        self._process.step()
        return self._database.flags_since(version)


class KafkaPort:
    """
    A client of Kafka: BeginningPublisher, ManyPublisher and BestEffortPublisher.

    What was begun reaches the broker in order, at the latest when somebody waits for it. `sends` hears of each record
    for a topic of real ones before it is handed over.
    """

    def __init__(self, process: Process, kafka: Kafka, sends: Callable[[str, Record], None]) -> None:
        self._process = process
        self._kafka = kafka
        self._sends = sends
        self._queue: list[Begun] = []
        self.begun: list[Record] = []
        self.handed_over = 0

    def publish(self, topic: str, record: Record) -> None:
        error = self.publish_many([(topic, record)])[0]
        if error is not None:
            raise error

    def begin(self, topic: str, record: Record) -> Begun:
        one = self._hand_over(topic, record)
        self.begun.append(record)
        return one

    def _hand_over(self, topic: str, record: Record) -> Begun:
        self._process.step()
        self._sends(topic, record)
        self.handed_over += 1
        if self._kafka.client_is_full():
            raise PublishRefused("the client's queue is full")
        one = Begun(topic, record)
        self._queue.append(one)
        return one

    def end(self, begun: Sequence[Begun], timeout: float | None = None) -> list[PublishError | None]:
        if self._process.buried:
            return [None for _ in begun]
        self._process.step()
        if timeout is None:
            self.flush()
        self._process.step()
        in_time = PublishAmbiguous("Kafka did not say anything in time")
        return [one.error if one.done else in_time for one in begun]

    def publish_many(self, records: Sequence[tuple[str, Record]]) -> list[PublishError | None]:
        begun: list[Begun | PublishError] = []
        for topic, record in records:
            try:
                begun.append(self._hand_over(topic, record))
            except PublishRefused as error:
                begun.append(error)
        outcomes = iter(self.end([one for one in begun if isinstance(one, Begun)]))
        return [next(outcomes) if isinstance(one, Begun) else one for one in begun]

    def flush(self) -> None:
        """Bring to its end what is under way."""
        queue, self._queue = self._queue, []
        for one in queue:
            self._kafka.deliver(one)

    def offer(self, topic: str, record: Record) -> bool:
        if self._kafka.away:
            return False
        self._kafka.append(topic, record)
        return True


class PendingPort:
    """A PendingStore, and a CallersOutbox whose transaction the process opens and ends."""

    def __init__(self, process: Process, database: Database) -> None:
        self._process = process
        self._database = database
        self._kept: list[Callable[[], None]] = []
        self.joined: list[Row] | None = None

    def delay(self, pending: PendingMessage) -> None:
        self._insert([("delayed", pending)])

    def outbox(self, pending: PendingMessage) -> None:
        self._insert([("outbox", pending)])

    def outbox_many(self, pending: Sequence[PendingMessage]) -> None:
        self._insert([("outbox", one) for one in pending])

    def _insert(self, rows: Sequence[Row]) -> None:
        self._process.step()
        self._database.commit(lambda: self._database.insert(rows))
        self._process.step()

    def add(self, alias: str, table: Table, pending: PendingMessage, kept: Callable[[], None]) -> None:
        self._process.step()
        if self.joined is None:
            self._insert([(table, pending)])
            kept()
            return
        self._database.check()
        self.joined.append((table, pending))
        self._kept.append(kept)

    def commit(self) -> list[str]:
        """End the caller's transaction; return the ids of the messages in it. Raises StoreUnavailable."""
        rows, kept = self.joined or [], self._kept
        self.joined, self._kept = None, []
        self._insert(rows)
        for call in kept:
            call()
        return [pending.message.task_id for _, pending in rows]

    def roll_back(self) -> list[str]:
        """Undo the caller's transaction; return the ids of the messages in it."""
        rows, self.joined, self._kept = self.joined or [], None, []
        return [pending.message.task_id for _, pending in rows]


class CeleryPort:
    """A CeleryPublisher, and what a plain publish of Celery's does."""

    def __init__(self, process: Process, celery: Celery, sends: Callable[[Message], None]) -> None:
        self._process = process
        self._celery = celery
        self._sends = sends

    def publish(self, message: Message) -> None:
        try:
            self.plain(message)
        except OSError as error:
            raise BrokerUnavailable(str(error)) from error

    def plain(self, message: Message) -> None:
        """Publish as Celery does; raise OSError."""
        self._process.step()
        self._sends(message)
        self._celery.take(message)
        self._process.step()


@dataclass(slots=True)
class _Passage:
    flag: Flag
    waiting: Road | None
    process: Process
    kept: list[Row] = field(default_factory=list)

    def keep(self, pending: PendingMessage) -> None:
        self.process.step()
        self.kept.append(("outbox", pending))


class GatePort:
    """The gates of ordered services: no transition passes while somebody is inside."""

    def __init__(self, process: Process, database: Database) -> None:
        self._process = process
        self._database = database

    @contextmanager
    def open(self, service: str, key: str) -> Iterator[_Passage]:
        self._process.step()
        database = self._database
        database.check()
        roads = {row.pending.road for row in database.waiting(service, key)}
        waiting: Road | None = "held" if "held" in roads else "any" if roads else None
        with holding(database, [service]):
            passage = _Passage(database.flag(service), waiting, self._process)
            yield passage
            self._process.step()
            if passage.kept:
                database.commit(lambda: database.insert(passage.kept))
            elif not database.available:
                raise StoreUnavailable("the connection broke, and with it the lock")
        self._process.step()
