"""A ledger in memory, whose transactions are the length of a list."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from taskbridge.adapters.celery.once import Claim, Ending
from taskbridge.exceptions import LeaseLost, StoreUnavailable
from taskbridge.record import Identity


class FakeLedger:
    """Grants each claim unless told otherwise, and keeps effects as a database would."""

    def __init__(self) -> None:
        self.tokens: dict[Identity, int] = {}
        self.endings: dict[Identity, Ending] = {}
        self.effects: list[str] = []
        self.leases: list[float] = []
        self.busy = 0
        """Claims that are still answered by None."""
        self.away = 0
        """Claims that still fail."""
        self.commit_error: Exception | None = None
        """Raised after the next commit, as when the connection breaks before its answer."""
        self.record_error: Exception | None = None

    def claim(self, identity: Identity, task: str, lease: float) -> Claim | Ending | None:
        if self.away:
            self.away -= 1
            raise StoreUnavailable("away")
        if self.busy:
            self.busy -= 1
            return None
        if identity in self.endings:
            return self.endings[identity]
        self.leases.append(lease)
        self.tokens[identity] = self.tokens.get(identity, 0) + 1
        return Claim(identity, self.tokens[identity])

    @contextmanager
    def transaction(self, claim: Claim) -> Iterator[None]:
        effects, endings = list(self.effects), dict(self.endings)
        try:
            self._check(claim)
            yield
        except BaseException:
            self.effects, self.endings = effects, {**endings, **self._others(claim, endings)}
            raise
        if self.commit_error is not None:
            error, self.commit_error = self.commit_error, None
            raise error

    def _others(self, claim: Claim, before: dict[Identity, Ending]) -> dict[Identity, Ending]:
        # What another process committed meanwhile stays.
        lost = self.tokens[claim.identity] != claim.token
        return {claim.identity: self.endings[claim.identity]} if lost and claim.identity in self.endings else {}

    def finish(self, claim: Claim, ending: Ending) -> None:
        self._check(claim)
        self.endings[claim.identity] = ending

    def record(self, claim: Claim, ending: Ending) -> Ending:
        if self.record_error is not None:
            raise self.record_error
        if self.tokens[claim.identity] != claim.token:
            raise LeaseLost("lost")
        return self.endings.setdefault(claim.identity, ending)

    def was_retried(self, identity: Identity) -> bool:
        return any(
            (other.task_id, other.nesting) == (identity.task_id, identity.nesting) and other.retries > identity.retries
            for other in self.tokens
        )

    def _check(self, claim: Claim) -> None:
        if self.tokens[claim.identity] != claim.token or claim.identity in self.endings:
            raise LeaseLost("lost")

    def take_over(self, identity: Identity, ending: Ending | None = None) -> None:
        """Claim as another process would, and end it."""
        self.tokens[identity] += 1
        if ending is not None:
            self.endings[identity] = ending
