"""What the relay needs of the tables that it empties."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal, Protocol

from taskbridge.ports import PendingMessage

Table = Literal["delayed", "outbox"]


@dataclass(frozen=True, slots=True)
class WaitingRow:
    """
    A row that is due.

    `attempts` counts publishes that were begun before and of which nobody knows how they ended. In the outbox `due` of
    the message is when it was put there.
    """

    id: int
    table: Table
    pending: PendingMessage
    attempts: int = 0

    @property
    def key(self) -> tuple[str, str]:
        """What the order of messages is kept for."""
        return self.pending.service, self.pending.key


class Claim(Protocol):
    """Rows that nobody else sends while the claim lasts, oldest first."""

    @property
    def rows(self) -> Sequence[WaitingRow]:
        """The rows; of each key either all that are due, from the oldest on, or none."""
        ...

    def attempt(self, ids: Collection[int]) -> Collection[int]:
        """Note, committed at once, that these are about to be published; return those that still exist."""
        ...

    def finish(self, gone: Collection[int], untried: Collection[int]) -> None:
        """Delete what was published, and take back the note from what was not tried, when the claim ends."""
        ...


class RelayStore(Protocol):
    """The tables, as the relay sees them; every method raises StoreUnavailable."""

    def claim(self, table: Table, limit: int, after: WaitingRow | None = None) -> AbstractContextManager[Claim]:
        """Claim up to `limit` due rows that come later than `after`; leaving the context commits."""
        ...

    def next_due(self) -> float | None:
        """Return the seconds until a row is due, 0 if one is, or None when there is none."""
        ...
