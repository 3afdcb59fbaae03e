"""One batch of due rows: where each goes, and what became of it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Protocol

from taskbridge.cutover import BASIS_POINTS, Flag, Stage, decide
from taskbridge.exceptions import BrokerUnavailable, MalformedRecord, PublishAmbiguous, PublishError
from taskbridge.observation import Batch, DispatchRow
from taskbridge.ports import CeleryPublisher, ManyPublisher, Observer
from taskbridge.record import Identity, Record, Stamp, encode
from taskbridge.relay.rows import Claim, Side, Table, WaitingRow
from taskbridge.routing import bucket
from taskbridge.settings import Settings

log = logging.getLogger("taskbridge.relay")

OBSERVED_TOGETHER = 200
"""Rows in one observation record."""

ROADS: dict[Side, str] = {"kafka": "Kafka", "celery": "Celery's broker"}
"""The roads, as people call them."""

_KAFKA_FOR_ALL = {(Stage.COMPLETE, 0), (Stage.LIVE, BASIS_POINTS)}


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

    doubted: set[Side] = field(default_factory=set)
    down: dict[Side, str] = field(default_factory=dict)
    blocked: set[tuple[str, str]] = field(default_factory=set)
    sent: dict[Side, int] = field(default_factory=lambda: {"celery": 0, "kafka": 0})

    def succeeded(self, road: Side) -> None:
        """Count a message, and trust the road again."""
        self.sent[road] += 1
        self.doubted.discard(road)


@dataclass(slots=True)
class _Work:
    """A row on its way; `headers` are Celery's."""

    row: WaitingRow
    road: Side
    flag: Flag
    identity: Identity
    headers: Mapping[str, Any]
    fallback: str = ""


@dataclass(slots=True)
class _Ledger:
    """What became of the rows of a claim: those that are done, and those that may have arrived, by road."""

    done: list[_Work] = field(default_factory=list)
    doubtful: dict[Side, list[int]] = field(default_factory=lambda: {"celery": [], "kafka": []})


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
        self._refusals: set[tuple[Table, int]] = set()

    def send(self, claim: Claim, passage: Passage) -> Sent:
        """
        Send what can be sent of a claim, and finish it.

        Where rows go is decided by the flags of this moment, with one look per task, so that the messages of a key
        take one road.
        """
        at = self._wall()
        works, held_back = self._choose(claim, passage)
        to_kafka = [work for work in works if work.road == "kafka"]
        to_celery = [work for work in works if work.road == "celery"]
        if works:
            claim.begin({"kafka": [work.row.id for work in to_kafka], "celery": [work.row.id for work in to_celery]})
        ledger = _Ledger()
        self._send_to_kafka(to_kafka, passage, ledger)
        for work in to_celery:
            if work.row.key not in passage.blocked:
                self._send_to_celery(work, passage, ledger)
        claim.finish([work.row.id for work in ledger.done], ledger.doubtful)
        return Sent(
            observations=self._observations(ledger.done, at),
            again=held_back and bool(ledger.done),
            left=len(ledger.done) < len(claim.rows),
        )

    def observe(self, sent: Sent) -> None:
        """Make the observations of a batch that is committed."""
        for batch in sent.observations:
            self._observer.observe(batch)

    def _choose(self, claim: Claim, passage: Passage) -> tuple[list[_Work], bool]:
        """Return what to try now, and whether rows wait for the outcome of a trial."""
        flags: dict[tuple[str, str], Flag] = {}
        chosen: list[_Work] = []
        on_trial: set[Side] = set()
        waiting: set[tuple[str, str]] = set()
        sides: dict[tuple[str, str], Side] = {}
        held_back = False
        for row in claim.rows:
            if (row.table, row.id) in self._stuck or row.key in passage.blocked or row.key in waiting:
                continue
            work = self._work(row, claim.flags, flags)
            if work is None or work.road in passage.down:
                self._keep_order(row, passage.blocked)
                continue
            changes_side = self._is_ordered(row) and sides.setdefault(row.key, work.road) != work.road
            if work.road in on_trial or changes_side:
                held_back = True
                self._keep_order(row, waiting)
                continue
            if work.road in passage.doubted:
                on_trial.add(work.road)
            chosen.append(work)
        return chosen, held_back

    def _keep_order(self, row: WaitingRow, keys: set[tuple[str, str]]) -> None:
        """Remember the key of a row that stays, where the next one would else pass it on the other side."""
        if self._is_ordered(row):
            keys.add(row.key)

    def _is_ordered(self, row: WaitingRow) -> bool:
        service = self._settings.services.get(row.pending.service)
        return service is not None and service.ordered

    def _work(self, row: WaitingRow, fresh: Mapping[str, Flag], flags: dict[tuple[str, str], Flag]) -> _Work | None:
        pending = row.pending
        service, task = pending.service, pending.message.task
        try:
            headers = pending.message.decoded_headers()
            identity = pending.message.identity(headers)
        except MalformedRecord as error:
            self._leave(row, f"its headers cannot be read: {error}")
            return None
        only = row.only
        if service not in self._settings.services:
            if only == "kafka" and pending.attempts:
                self._leave(row, f"TASKBRIDGE names no service {service!r} any more, and Kafka alone may have it")
                return None
            return _Work(row, "celery", Flag(service, Stage.OFF), identity, headers)
        flag = flags.get((service, task))
        if flag is None:
            flag = flags[service, task] = fresh.get(service) or self._flags.get(service, task)
        if only == "celery" and flag.stage is not Stage.COMPLETE:
            return _Work(row, "celery", flag, identity, headers)
        if only == "kafka":
            return _Work(row, "kafka", flag, identity, headers)
        if flag.fence is None and (flag.stage, flag.basis_points) in _KAFKA_FOR_ALL:
            return _Work(row, "kafka", flag, identity, headers)
        number = bucket(self._settings.salt, pending.key)
        if flag.fence is not None and flag.fence.sides and flag.fence.covers(number):
            # Its key changes side: what was dispatched before must be done with there first.
            return None
        return _Work(row, "kafka" if decide(flag, number).kafka else "celery", flag, identity, headers)

    def _leave(self, row: WaitingRow, why: str) -> None:
        self._stuck.add((row.table, row.id))
        message = row.pending.message
        log.error("row %d of taskbridge_%s, %s[%s], stays: %s", row.id, row.table, message.task, message.task_id, why)

    def _send_to_kafka(self, works: Sequence[_Work], passage: Passage, ledger: _Ledger) -> None:
        # One message per key at a time: should it fail, those behind it must not have passed it.
        while works and "kafka" not in passage.down:
            wave: dict[tuple[str, str], _Work] = {}
            for work in works:
                wave.setdefault(work.row.key, work)
            works = [work for work in works if wave[work.row.key] is not work] if len(wave) < len(works) else []
            outcomes = self._kafka.publish_many([self._record(work) for work in wave.values()])
            for work, error in zip(wave.values(), outcomes, strict=True):
                if error is None:
                    ledger.done.append(work)
                    passage.succeeded("kafka")
                elif isinstance(error, PublishAmbiguous):
                    ledger.doubtful["kafka"].append(work.row.id)
                    passage.down["kafka"] = str(error)
                else:
                    self._refused(work, error, passage, ledger)
            if passage.blocked:
                works = [work for work in works if work.row.key not in passage.blocked]

    def _refused(self, work: _Work, error: PublishError, passage: Passage, ledger: _Ledger) -> None:
        pending = work.row.pending
        passage.blocked.add(work.row.key)
        if pending.attempts == 0 and work.flag.stage is not Stage.COMPLETE and not self._is_ordered(work.row):
            work.road, work.fallback = "celery", "refused"
            if self._send_to_celery(work, passage, ledger):
                passage.blocked.discard(work.row.key)
            return
        # Kafka may have it from an earlier attempt, or nothing else may have it: no other road may be taken.
        if (work.row.table, work.row.id) not in self._refusals:
            self._refusals.add((work.row.table, work.row.id))
            log.warning(
                "%s[%s] stays in taskbridge_%s: %s", pending.message.task, work.identity.task_id, work.row.table, error
            )

    def _send_to_celery(self, work: _Work, passage: Passage, ledger: _Ledger) -> bool:
        """Return whether it was sent."""
        if "celery" in passage.down:
            return False
        try:
            self._celery.publish(work.row.pending.message)
        except BrokerUnavailable as error:
            ledger.doubtful["celery"].append(work.row.id)
            passage.down["celery"] = str(error)
        except MalformedRecord as error:
            self._leave(work.row, str(error))
        else:
            ledger.done.append(work)
            passage.succeeded("celery")
            return True
        return False

    def _record(self, work: _Work) -> tuple[str, Record]:
        pending = work.row.pending
        traceparent = work.headers.get("traceparent")
        record = encode(
            pending.message,
            pending.key,
            Stamp("kafka", _epoch(work), pending.producer, pending.seq),
            traceparent if isinstance(traceparent, str) else None,
        )
        return self._settings.topic(pending.service), record

    def _observations(self, done: Sequence[_Work], at: float) -> list[Batch]:
        rows: dict[str, list[DispatchRow]] = {}
        for work in done:
            service = self._settings.services.get(work.row.pending.service)
            if service is not None and service.observe:
                rows.setdefault(service.name, []).append(self._row(work, at))
        return [
            Batch("dispatch", service, self._numbering.source, found[start : start + OBSERVED_TOGETHER])
            for service, found in rows.items()
            for start in range(0, len(found), OBSERVED_TOGETHER)
        ]

    def _row(self, work: _Work, at: float) -> DispatchRow:
        pending = work.row.pending
        return DispatchRow(
            id=work.identity.task_id,
            retries=work.identity.retries,
            nesting=work.identity.nesting,
            task=pending.message.task,
            key=pending.key,
            route=work.road,
            epoch=_epoch(work),
            seq=self._numbering.next(pending.service)[1],
            at=at,
            copy="none",
            body=sha256(pending.message.body).hexdigest()[:16],
            stage=work.flag.stage.value,
            ambiguous=work.row.doubts,
            fallback=work.fallback,
            due=pending.due.timestamp() if work.row.table == "delayed" else 0.0,
        )


def _epoch(work: _Work) -> int:
    """Return the epoch of the decision: that of the dispatch where it is what sent the message to Kafka."""
    pending = work.row.pending
    return pending.epoch if work.row.table == "outbox" and pending.road == "kafka" else work.flag.epoch
