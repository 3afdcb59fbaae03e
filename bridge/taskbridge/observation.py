"""
What one side did, as it is written to `<prefix>.observations`.

One record of that topic is a batch: a JSON object `{"v": 1, "kind": ..., "service": ..., "source": ..., "rows": [...]}`
with rows of one kind.

    dispatch   a message was sent, or put aside until it is due
    run        a side executed a message, or ended it without executing (expired, dead-lettered)
    copy       the shadow worker decoded a copy; nothing was executed

Rows of all kinds carry `id`, `retries` and `nesting`, on which they are joined. Times are seconds since the epoch.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any, Literal, get_args

from taskbridge.exceptions import MalformedRecord
from taskbridge.record import Identity

VERSION = 1

Side = Literal["celery", "kafka"]
Kind = Literal["dispatch", "run", "copy"]
DispatchRoute = Literal["celery", "kafka", "delayed"]
CopyState = Literal["none", "sent", "lost"]
Outcome = Literal["success", "failure", "retry", "ignored", "rejected", "revoked", "expired", "requeued", "dead"]


@dataclass(frozen=True, slots=True)
class DispatchRow:
    """
    One message that was sent.

    A message put aside is seen twice: as `delayed`, and as `celery` or `kafka` once the relay has sent it.
    `ambiguous` counts publishes of which nobody knows whether the broker took them; each may explain one repeat.
    `fallback` says why a message for Kafka went to Celery (`refused`, `unsupported:<feature>`), and is else empty.
    `body` is the first 16 hexadecimal digits of the body's SHA-256. `due` is the time before which it must not run
    (its eta), and 0 when it may run at once.
    """

    id: str
    retries: int
    nesting: int
    task: str
    key: str
    route: DispatchRoute
    epoch: int
    seq: int
    at: float
    copy: CopyState
    body: str
    stage: str
    ambiguous: int = 0
    fallback: str = ""
    due: float = 0.0


@dataclass(frozen=True, slots=True)
class RunRow:
    """
    One ending of one execution.

    `started` and `finished` are 0 when the body never ran. `partition` and `offset` are -1 on Celery.
    `args` is the digest of the decoded arguments (empty where it was not taken), `deliveries` how often the
    record had been given back before, `detail` the exception's type or the dead-letter reason. `once` is 1 when the
    task runs once and did, 2 when its body was skipped because it had run before, and 0 for any other task.
    """

    id: str
    retries: int
    nesting: int
    task: str
    side: Side
    outcome: Outcome
    started: float
    finished: float
    epoch: int = 0
    partition: int = -1
    offset: int = -1
    deliveries: int = 0
    args: str = ""
    detail: str = ""
    once: int = 0


@dataclass(frozen=True, slots=True)
class CopyRow:
    """
    What the shadow worker made of one copy: how far it came, and the digests of what it found.

    `error` names the first step that failed; the later steps are then false.
    """

    id: str
    retries: int
    nesting: int
    task: str
    epoch: int
    producer: str
    seq: int
    partition: int
    offset: int
    decoded: bool
    resolved: bool
    bound: bool
    body: str
    args: str = ""
    error: str = ""


Row = DispatchRow | RunRow | CopyRow
_ROW_TYPES: dict[str, type[DispatchRow | RunRow | CopyRow]] = {
    "dispatch": DispatchRow,
    "run": RunRow,
    "copy": CopyRow,
}


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of one kind, of one service, from one process (`source`: `host:pid:random`)."""

    kind: Kind
    service: str
    source: str
    rows: Sequence[Row]


_NAMES = {kind: tuple(item.name for item in fields(row_type)) for kind, row_type in _ROW_TYPES.items()}
_FIELDS = {kind: attrgetter(*names) for kind, names in _NAMES.items()}
_TIMES: dict[str, tuple[str, ...]] = {
    kind: tuple(item.name for item in fields(row_type) if item.type == "float") for kind, row_type in _ROW_TYPES.items()
}
_WORDS: dict[str, dict[str, frozenset[str]]] = {
    "dispatch": {"route": frozenset(get_args(DispatchRoute)), "copy": frozenset(get_args(CopyState))},
    "run": {"side": frozenset(get_args(Side)), "outcome": frozenset(get_args(Outcome))},
    "copy": {},
}
_TYPES: dict[str, tuple[type, ...]] = {"int": (int,), "float": (float, int), "bool": (bool,)}
_encode = json.JSONEncoder(separators=(",", ":")).encode
_LATEST = 1e11
"""Times beyond it (or negative, or not finite) are no times: they would spoil every duration they meet."""

# A row's fields have few combinations of types, so each is compared with the declaration once.
_accepted: set[tuple[Any, ...]] = set()


def identity(row: Row) -> Identity:
    """Return the key on which rows are joined."""
    return Identity(row.id, row.retries, row.nesting)


ROWS_AT_ONCE = 16
"""Rows that are written without a pause, some 50 µs."""


def dumps(batch: Batch, pause: Callable[[], None] | None = None) -> bytes:
    """
    Return the value of an observation record.

    `pause` is called every few rows: a thread in the background lets others go on there, who would wait else until all
    rows are done.
    """
    # Not dataclasses.asdict(): it copies deeply, at every dispatch.
    names, values_of = _NAMES[batch.kind], _FIELDS[batch.kind]
    head = _encode({"v": VERSION, "kind": batch.kind, "service": batch.service, "source": batch.source, "rows": []})
    slices: list[str] = []
    for start in range(0, len(batch.rows), ROWS_AT_ONCE):
        if pause is not None and start:
            pause()
        rows = batch.rows[start : start + ROWS_AT_ONCE]
        slices.append(_encode([dict(zip(names, values_of(row), strict=True)) for row in rows])[1:-1])
    return f"{head[:-2]}{','.join(slices)}]}}".encode()


def loads(value: bytes | None) -> Batch:
    """
    Return the batch in an observation record.

    Unknown fields of a row are ignored, so that an older reader can read what a newer writer adds. Raises
    MalformedRecord for anything that is not a version 1 batch whose fields have the types and words declared here.
    """
    try:
        document = json.loads(value or b"")
        version, kind = document["v"], document["kind"]
        if version != VERSION:
            raise MalformedRecord(f"observation of format version {version!r}; this program reads version {VERSION}")
        if kind not in get_args(Kind):
            raise MalformedRecord(f"observation of unknown kind {kind!r}")
        row_type = _ROW_TYPES[kind]
        names = _NAMES[kind]
        rows = [row_type(**{name: row[name] for name in names if name in row}) for row in document["rows"]]
        _check(kind, document["service"], document["source"], rows)
        return Batch(kind, document["service"], document["source"], rows)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise MalformedRecord(f"an observation record cannot be read: {error!r}") from error


def _check(kind: Kind, service: Any, source: Any, rows: Sequence[Row]) -> None:
    if type(service) is not str or type(source) is not str:
        raise TypeError("service and source must be strings")
    values_of, times, words = _FIELDS[kind], _TIMES[kind], _WORDS[kind]
    for row in rows:
        values = values_of(row)
        types = (kind, *map(type, values))
        if types not in _accepted:
            _check_types(kind, values)
            _accepted.add(types)
        for name in times:
            if not 0 <= getattr(row, name) < _LATEST:
                raise ValueError(f"{name} is no time: {getattr(row, name)!r}")
        for name, known in words.items():
            if getattr(row, name) not in known:
                raise ValueError(f"unknown {name} {getattr(row, name)!r}")


def _check_types(kind: Kind, values: Sequence[Any]) -> None:
    for item, value in zip(fields(_ROW_TYPES[kind]), values, strict=True):
        allowed: tuple[type, ...] = _TYPES.get(str(item.type), (str,))
        if type(value) not in allowed:
            raise TypeError(f"{item.name} must be {item.type}, not {value!r}")
