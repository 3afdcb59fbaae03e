"""What a dispatch leaves behind beside the message: a count and an observation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from taskbridge.cutover import Flag
from taskbridge.dispatch.counters import Counters, Counting
from taskbridge.dispatch.outgoing import Outgoing
from taskbridge.observation import Batch, CopyState, DispatchRoute, DispatchRow
from taskbridge.ports import Observer
from taskbridge.record import Stamp


@dataclass(slots=True)
class Sending:
    """One message, the flag that decided for it, and the time of its dispatch (seconds since the epoch)."""

    flag: Flag
    outgoing: Outgoing
    at: float


class Traces:
    """Counts and observes dispatches; to be told of those only that have happened."""

    def __init__(self, counters: Counters, observer: Observer) -> None:
        self.counters = counters
        self._observer = observer

    def note(
        self,
        sending: Sending,
        route: DispatchRoute,
        stamp: Stamp,
        *counted: Counting,
        copy: CopyState = "none",
        ambiguous: int = 0,
        fallback: str = "",
        due: float | None = None,
    ) -> None:
        """Count a dispatch and observe it; `due` is the message's own time unless it is given."""
        self.counters.add(sending.outgoing.service.name, *counted)
        self.observe(sending.flag, sending.outgoing, sending.at, route, stamp, copy, ambiguous, fallback, due)

    def observe(
        self,
        flag: Flag,
        outgoing: Outgoing,
        at: float,
        route: DispatchRoute,
        stamp: Stamp,
        copy: CopyState = "none",
        ambiguous: int = 0,
        fallback: str = "",
        due: float | None = None,
    ) -> None:
        """Observe a dispatch that was counted otherwise."""
        service = outgoing.service
        if service.observe:
            row = _row(
                flag, outgoing, at, route, stamp, copy, ambiguous, fallback, outgoing.due if due is None else due
            )
            self._observer.observe(Batch("dispatch", service.name, stamp.producer, (row,)))

    def note_kafka(self, sent: Sequence[tuple[Sending, Stamp]]) -> None:
        """Count and observe dispatches of this process that Kafka has acknowledged, many at a time."""
        by_service: dict[str, list[DispatchRow]] = {}
        for sending, stamp in sent:
            outgoing = sending.outgoing
            row = _row(sending.flag, outgoing, sending.at, "kafka", stamp, "none", 0, "", outgoing.due)
            by_service.setdefault(outgoing.service.name, []).append(row)
        observed = {sending.outgoing.service.name: sending.outgoing.service.observe for sending, _ in sent}
        for service, rows in by_service.items():
            self.counters.add_many(service, "kafka", len(rows))
            if observed[service]:
                self._observer.observe(Batch("dispatch", service, sent[0][1].producer, rows))


def _row(
    flag: Flag,
    outgoing: Outgoing,
    at: float,
    route: DispatchRoute,
    stamp: Stamp,
    copy: CopyState,
    ambiguous: int,
    fallback: str,
    due: float,
) -> DispatchRow:
    # By position, as this is done at every dispatch.
    return DispatchRow(
        outgoing.task_id,
        outgoing.retries,
        outgoing.nesting,
        outgoing.task,
        outgoing.key,
        route,
        flag.epoch,
        stamp.seq,
        at,
        copy,
        sha256(outgoing.body).hexdigest()[:16],
        flag.stage.value,
        ambiguous,
        fallback,
        due,
    )
