"""
What supervisor and executor say to each other over their pipe.

Frames are `marshal`: both ends are the same interpreter on the same machine, it is several times faster than the
alternatives, and unlike pickle it can only ever give plain values.
"""

from __future__ import annotations

import marshal
from typing import Any, NamedTuple

from taskbridge.record import Headers


class Obituary(NamedTuple):
    """
    How the executor that was running a record died.

    `cause` is `timeout` when it was killed for exceeding a hard time limit, else `lost`. `exitcode` is negative for a
    signal.
    """

    cause: str
    exitcode: int


class WorkItem(NamedTuple):
    """
    One record for an executor.

    With an `obituary` the record is not executed: the executor records its failure as Celery would, and says what is
    to become of it.
    """

    slot: int
    value: bytes | None
    headers: Headers
    partition: int
    offset: int
    obituary: Obituary | None = None


class Verdict(NamedTuple):
    """
    What the supervisor has to do with a record whose slot says ATTENTION.

    `action` is `dead` (to the dead-letter topic, with reason, detail and traceback) or `requeue` (to the end of its
    topic, to run again).
    """

    slot: int
    action: str
    reason: str
    detail: str
    traceback: str


class Report(NamedTuple):
    """
    What an executor tells: that it is ready, verdicts, rows for the observations (one for every record that has
    ended, in order), and that a batch is finished.

    `rows` are the fields of RunRow (or CopyRow) in their order. `failure` is why the executor could not start.
    """

    ready: bool = False
    verdicts: list[Verdict] = []  # noqa: RUF012 - never mutated
    rows: list[tuple[Any, ...]] = []  # noqa: RUF012
    finished: bool = False
    failure: str = ""


STOP = b""
"""Frame that asks an executor to end."""


def dump_batch(items: list[WorkItem]) -> bytes:
    """Return the frame that carries `items`."""
    return marshal.dumps([(*item[:5], item.obituary and tuple(item.obituary)) for item in items])


def load_batch(frame: bytes) -> list[WorkItem]:
    """Return the items in a frame."""
    rows: Any = marshal.loads(frame)  # noqa: S302 - from our own parent process
    return [
        WorkItem(slot, value, headers, partition, offset, obituary and Obituary(*obituary))
        for slot, value, headers, partition, offset, obituary in rows
    ]


def dump_report(report: Report) -> bytes:
    """Return the frame that carries `report`."""
    return marshal.dumps(
        (report.ready, [tuple(verdict) for verdict in report.verdicts], report.rows, report.finished, report.failure)
    )


def load_report(frame: bytes) -> Report:
    """Return the report in a frame."""
    ready, verdicts, rows, finished, failure = marshal.loads(frame)  # noqa: S302
    return Report(ready, [Verdict(*verdict) for verdict in verdicts], rows, finished, failure)
