"""One batch of due rows: where each goes, and what became of it."""

from __future__ import annotations

import logging
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Literal, Protocol

from taskbridge.cutover import Flag, Stage, decide
from taskbridge.exceptions import BrokerUnavailable, MalformedRecord, PublishAmbiguous, PublishError
from taskbridge.observation import Batch, DispatchRow
from taskbridge.ports import CeleryPublisher, ManyPublisher, Observer
from taskbridge.record import Identity, Record, Stamp, encode
from taskbridge.relay.rows import Claim, Table, WaitingRow
from taskbridge.routing import bucket
from taskbridge.settings import Settings

log = logging.getLogger("taskbridge.relay")

OBSERVED_TOGETHER = 200
"""Rows in one observation record."""

Road = Literal["celery", "kafka"]

ROADS: dict[Road, str] = {"kafka": "Kafka", "celery": "Celery's broker"}
"""The roads, as people call them."""


class Flags(Protocol):
    """Flags as they stand."""

    def get(self, service: str, task: str = "") -> Flag:
        """Return the flag of a task of a configured service, or the service's."""
        ...


class Numbering(Protocol):
    """The name of this process and a running number per service."""

    @property
    def source(self) -> str:
        """The process as `host:pid:random`."""
        ...

    def next(self, service: str) -> tuple[str, int]:
        """Return the process and the service's next number."""
        ...


@dataclass(slots=True)
class Passage:
    """
    What one pass over the tables has learnt.

    `doubted` roads failed before: one message is tried first. `down` holds the roads that are given up in this pass,
    with the reason. `blocked` holds keys of which a message had to stay, so that none overtakes it.
    """

    doubted: set[Road] = field(default_factory=set)
    down: dict[Road, str] = field(default_factory=dict)
    blocked: set[tuple[str, str]] = field(default_factory=set)
    sent: dict[Road, int] = field(default_factory=lambda: {"celery": 0, "kafka": 0})

    def succeeded(self, road: Road) -> None:
        """Count a message, and trust the road again."""
        self.sent[road] += 1
        self.doubted.discard(road)


@dataclass(slots=True)
class _Work:
    """A row on its way."""

    row: WaitingRow
    road: Road
    flag: Flag
    identity: Identity
    fallback: str = ""


@dataclass(slots=True)
class _Ledger:
    """What became of the rows of a claim; a row that was tried and is not done may have arrived."""

    done: list[_Work] = field(default_factory=list)
    tried: set[int] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Sent:
    """
    What a batch came to.

    `observations` are to be made once the claim is committed. `again` says that the same place of the table has more
    to send, `left` that rows stay which this pass cannot send.
    """

    observations: list[Batch]
    again: bool
    left: bool


class Sender:
    """Sends the rows of a claim."""

    def __init__(
        self,
        settings: Settings,
        flags: Flags,
        kafka: ManyPublisher,
        celery: CeleryPublisher,
        observer: Observer,
        numbering: Numbering,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """`wall` returns seconds since the epoch."""
        self._settings = settings
        self._flags = flags
        self._kafka = kafka
        self._celery = celery
        self._observer = observer
        self._numbering = numbering
        self._wall = wall
        self._stuck: set[tuple[Table, int]] = set()

    def send(self, claim: Claim, passage: Passage) -> Sent:
        """
        Send what can be sent of a claim, and finish it.

        Where rows go is decided by the flags of this moment, with one look per service, so that the messages of a key
        take one road.
        """
        at = self._wall()
        works, held_back = self._choose(claim.rows, passage)
        existing = set(claim.attempt([work.row.id for work in works])) if works else set()
        works = [work for work in works if work.row.id in existing]
        ledger = _Ledger()
        to_celery = [work for work in works if work.road == "celery"]
        self._send_to_kafka([work for work in works if work.road == "kafka"], passage, ledger)
        for work in to_celery:
            self._send_to_celery(work, passage, ledger)
        gone = [work.row.id for work in ledger.done]
        claim.finish(gone, [work.row.id for work in works if work.row.id not in ledger.tried])
        return Sent(
            observations=self._observations(ledger.done, at),
            again=held_back and bool(ledger.done),
            left=len(gone) < len(claim.rows),
        )

    def observe(self, sent: Sent) -> None:
        """Make the observations of a batch that is committed."""
        for batch in sent.observations:
            self._observer.observe(batch)

    def _choose(self, rows: Iterable[WaitingRow], passage: Passage) -> tuple[list[_Work], bool]:
        """Return what to try now, and whether rows wait for the outcome of a trial."""
        flags: dict[tuple[str, str], Flag] = {}
        chosen: list[_Work] = []
        on_trial: set[Road] = set()
        held_back = False
        for row in rows:
            if (row.table, row.id) in self._stuck or row.key in passage.blocked:
                continue
            work = self._work(row, flags)
            if work is None or work.road in passage.down:
                continue
            if work.road in on_trial:
                held_back = True
                continue
            if work.road in passage.doubted:
                on_trial.add(work.road)
            chosen.append(work)
        return chosen, held_back

    def _work(self, row: WaitingRow, flags: dict[tuple[str, str], Flag]) -> _Work | None:
        service = row.pending.service
        try:
            identity = row.pending.message.identity()
        except MalformedRecord as error:
            self._leave(row, f"its headers cannot be read: {error}")
            return None
        if service not in self._settings.services:
            if row.table == "outbox":
                self._leave(row, f"TASKBRIDGE names no service {service!r} any more, and it is for Kafka only")
                return None
            return _Work(row, "celery", Flag(service, Stage.OFF), identity)
        task = row.pending.message.task
        flag = flags.get((service, task))
        if flag is None:
            flag = flags[service, task] = self._flags.get(service, task)
        kafka = row.table == "outbox" or decide(flag, bucket(self._settings.salt, row.pending.key)).kafka
        return _Work(row, "kafka" if kafka else "celery", flag, identity)

    def _leave(self, row: WaitingRow, why: str) -> None:
        self._stuck.add((row.table, row.id))
        message = row.pending.message
        log.error("row %d of taskbridge_%s, %s[%s], stays: %s", row.id, row.table, message.task, message.task_id, why)

    def _send_to_kafka(self, works: list[_Work], passage: Passage, ledger: _Ledger) -> None:
        queues: defaultdict[tuple[str, str], deque[_Work]] = defaultdict(deque)
        for work in works:
            queues[work.row.key].append(work)
        # One message per key at a time: should it fail, those behind it must not have passed it.
        while queues and "kafka" not in passage.down:
            wave = [queue.popleft() for queue in queues.values()]
            ledger.tried.update(work.row.id for work in wave)
            outcomes = self._kafka.publish_many([self._record(work) for work in wave])
            for work, error in zip(wave, outcomes, strict=True):
                if error is None:
                    ledger.done.append(work)
                    passage.succeeded("kafka")
                elif isinstance(error, PublishAmbiguous):
                    passage.down["kafka"] = str(error)
                else:
                    self._refused(work, error, passage, ledger)
                if work.row.key in passage.blocked or not queues[work.row.key]:
                    del queues[work.row.key]

    def _refused(self, work: _Work, error: PublishError, passage: Passage, ledger: _Ledger) -> None:
        ledger.tried.discard(work.row.id)
        if work.row.table == "outbox":
            # Kafka may have it from an earlier attempt, so no other road may be taken.
            passage.blocked.add(work.row.key)
            log.warning("%s[%s] stays in the outbox: %s", work.row.pending.message.task, work.identity.task_id, error)
            return
        work.road, work.fallback = "celery", "refused"
        self._send_to_celery(work, passage, ledger)

    def _send_to_celery(self, work: _Work, passage: Passage, ledger: _Ledger) -> None:
        if "celery" in passage.down:
            return
        ledger.tried.add(work.row.id)
        try:
            self._celery.publish(work.row.pending.message)
        except BrokerUnavailable as error:
            passage.down["celery"] = str(error)
        except MalformedRecord as error:
            ledger.tried.discard(work.row.id)
            self._leave(work.row, str(error))
        else:
            ledger.done.append(work)
            passage.succeeded("celery")

    def _record(self, work: _Work) -> tuple[str, Record]:
        pending = work.row.pending
        epoch = work.flag.epoch if work.row.table == "delayed" else pending.epoch
        traceparent = pending.message.decoded_headers().get("traceparent")
        record = encode(
            pending.message,
            pending.key,
            Stamp("kafka", epoch, pending.producer, pending.seq),
            traceparent if isinstance(traceparent, str) else None,
        )
        return self._settings.topic(pending.service), record

    def _observations(self, done: list[_Work], at: float) -> list[Batch]:
        rows: defaultdict[str, list[DispatchRow]] = defaultdict(list)
        for work in done:
            service = self._settings.services.get(work.row.pending.service)
            if service is not None and service.observe:
                rows[service.name].append(self._row(work, at))
        return [
            Batch("dispatch", service, self._numbering.source, found[start : start + OBSERVED_TOGETHER])
            for service, found in rows.items()
            for start in range(0, len(found), OBSERVED_TOGETHER)
        ]

    def _row(self, work: _Work, at: float) -> DispatchRow:
        pending = work.row.pending
        delayed = work.row.table == "delayed"
        return DispatchRow(
            id=work.identity.task_id,
            retries=work.identity.retries,
            nesting=work.identity.nesting,
            task=pending.message.task,
            key=pending.key,
            route=work.road,
            epoch=work.flag.epoch if delayed else pending.epoch,
            seq=self._numbering.next(pending.service)[1],
            at=at,
            copy="none",
            body=sha256(pending.message.body).hexdigest()[:16],
            stage=work.flag.stage.value,
            ambiguous=work.row.attempts,
            fallback=work.fallback,
            due=pending.due.timestamp() if delayed else 0.0,
        )
