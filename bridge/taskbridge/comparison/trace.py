"""All that was seen of one dispatch, small enough to keep hundreds of thousands of them."""

from __future__ import annotations

from typing import NamedTuple


class Sending(NamedTuple):
    """One dispatch row: the message was sent, or put aside (`route` is then `delayed`)."""

    at: float
    due: float
    source: str
    seq: int
    task: str
    key: str
    route: str
    stage: str
    epoch: int
    copy: str
    body: str
    ambiguous: int
    fallback: str

    @property
    def runnable(self) -> float:
        """The time from which the message could run."""
        return max(self.at, self.due)


class Run(NamedTuple):
    """One run row: an execution, or an ending without one."""

    started: float
    finished: float
    task: str
    side: str
    outcome: str
    partition: int
    offset: int
    deliveries: int
    args: str
    detail: str
    once: int = 0


class Copy(NamedTuple):
    """One copy row: what the shadow worker made of a copy."""

    partition: int
    offset: int
    task: str
    decoded: bool
    resolved: bool
    bound: bool
    body: str
    args: str
    error: str


class Trace:
    """The rows of one identity, without those that were seen before."""

    __slots__ = ("copies", "runs", "sendings")

    def __init__(self) -> None:
        self.sendings: tuple[Sending, ...] = ()
        self.runs: tuple[Run, ...] = ()
        self.copies: tuple[Copy, ...] = ()

    def last_sending(self) -> Sending:
        """
        Return the dispatch row that says where the message went in the end.

        A message that was put aside is seen again when the relay sends it, and that row counts. Raises ValueError
        when no dispatch row was seen.
        """
        return max(self.sendings, key=lambda sending: (sending.route != "delayed", sending))
