"""Rows with what a test does not care about filled in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from taskbridge.comparison import Fold
from taskbridge.observation import Batch, CopyRow, DispatchRow, Row, RunRow

NOW = 1_700_000_000.0

DISPATCH = DispatchRow(
    id="a1",
    retries=0,
    nesting=0,
    task="shop.orders.tasks.place",
    key="a1",
    route="celery",
    epoch=3,
    seq=1,
    at=NOW - 60.0,
    copy="none",
    body="b0d1",
    stage="live",
)
RUN = RunRow(
    id="a1",
    retries=0,
    nesting=0,
    task="shop.orders.tasks.place",
    side="celery",
    outcome="success",
    started=NOW - 59.5,
    finished=NOW - 59.0,
)
COPY = CopyRow(
    id="a1",
    retries=0,
    nesting=0,
    task="shop.orders.tasks.place",
    epoch=3,
    producer="web:1:aa",
    seq=1,
    partition=0,
    offset=7,
    decoded=True,
    resolved=True,
    bound=True,
    body="b0d1",
    args="a4g5",
)


def dispatch(**fields: Any) -> DispatchRow:
    return replace(DISPATCH, **fields)


def mirrored(**fields: Any) -> DispatchRow:
    return replace(DISPATCH, **{"copy": "sent", "stage": "mirror"} | fields)


def to_kafka(**fields: Any) -> DispatchRow:
    return replace(DISPATCH, **{"route": "kafka"} | fields)


def put_aside(**fields: Any) -> DispatchRow:
    return replace(DISPATCH, **{"route": "delayed"} | fields)


def run(**fields: Any) -> RunRow:
    return replace(RUN, **fields)


def on_kafka(**fields: Any) -> RunRow:
    return replace(RUN, **{"side": "kafka", "partition": 2, "offset": 40} | fields)


def ended(outcome: str, **fields: Any) -> RunRow:
    return replace(RUN, **{"outcome": outcome, "started": 0.0, "finished": 0.0} | fields)


def copy(**fields: Any) -> CopyRow:
    return replace(COPY, **fields)


def batches(rows: Sequence[Row], source: str = "web:1:aa") -> list[Batch]:
    kinds = {DispatchRow: "dispatch", RunRow: "run", CopyRow: "copy"}
    return [Batch(kinds[type(row)], "orders", source, (row,)) for row in rows]


def fold(*rows: Row, task: str | None = None, source: str = "web:1:aa") -> Fold:
    folded = Fold("orders", task)
    for batch in batches(rows, source):
        folded.add(batch)
    return folded
