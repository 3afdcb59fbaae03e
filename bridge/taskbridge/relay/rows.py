"""What the relay needs of the tables that it empties."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal, Protocol

from taskbridge.cutover import Flag
from taskbridge.ports import PendingMessage

Table = Literal["delayed", "outbox"]

Side = Literal["celery", "kafka"]


@dataclass(frozen=True, slots=True)
class WaitingRow:
    """
    A row that is due.

    In the outbox `due` of the message is when it was put there.
    """

    id: int
    table: Table
    pending: PendingMessage

    @property
    def key(self) -> tuple[str, str]:
        """What the order of messages is kept for."""
        return self.pending.service, self.pending.key

    @property
    def only(self) -> Side | None:
        """The side that alone may be given the message, because it may have it, or None where the flag decides."""
        road = self.pending.road
        if road == "celery-again":
            return "celery"
        return None if road == "any" else "kafka"

    @property
    def doubts(self) -> int:
        """Publishes of unknown end that only the relay knows of: the dispatcher counts its own."""
        return self.pending.attempts - (self.pending.road == "kafka" and self.pending.attempts > 0)


class Claim(Protocol):
    """Rows that nobody else sends, or cancels, while the claim lasts, oldest first."""

    @property
    def rows(self) -> Sequence[WaitingRow]:
        """The rows; of each key either all that are due, from the oldest on, or none."""
        ...

    @property
    def flags(self) -> Mapping[str, Flag]:
        """Of ordered services with rows here: their flags, which no transition changes while the claim lasts."""
        ...

    @property
    def busy(self) -> bool:
        """Whether there are due rows that another claim holds."""
        ...

    def begin(self, ids: Mapping[Side, Collection[int]]) -> None:
        """Note, committed at once, that these are about to be published."""
        ...

    def finish(self, gone: Collection[int], doubtful: Mapping[Side, Collection[int]]) -> None:
        """Delete what was published and mark what may have arrived, and take the note back, when the claim ends."""
        ...


class RelayStore(Protocol):
    """The tables, as the relay sees them; every method raises StoreUnavailable."""

    def claim(self, table: Table, limit: int, after: WaitingRow | None = None) -> AbstractContextManager[Claim]:
        """Claim up to `limit` due rows that come later than `after`; leaving the context commits."""
        ...

    def next_due(self) -> float | None:
        """Return the seconds until a row is due, 0 if one is, or None when there is none."""
        ...


class Keeper(Protocol):
    """Lets held messages go on once nothing of their keys is left on the side that they leave."""

    def lift(self) -> None:
        """Look once, and lift what can be lifted; raise TaskbridgeError that says why not."""
        ...
