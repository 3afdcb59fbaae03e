"""Observations of what executors did."""

from __future__ import annotations

import pytest

from taskbridge.observation import CopyRow, Kind, RunRow, dumps, loads
from taskbridge.testing import RecordingObserver
from taskbridge.worker.rows import ROWS_PER_RECORD, Rows
from tests.unit.taskbridge.worker.entries import entry, headers

RUN = ("id-1", 0, 0, "orders.place", "kafka", "success", 10.0, 11.0, 4, 2, 5, 0, "", "")
COPY = ("id-1", 0, 0, "orders.place", 4, "host:1:a", 9, 2, 5, True, True, True, "b0d1", "a49", "")


def rows_of(kind: Kind = "run") -> tuple[Rows, RecordingObserver]:
    observer = RecordingObserver()
    return Rows(observer, kind, "orders", "host:2:b"), observer


@pytest.mark.parametrize(("kind", "fields", "row"), [("run", RUN, RunRow(*RUN)), ("copy", COPY, CopyRow(*COPY))])
def test_fields_become_rows_that_can_be_written_and_read(kind: Kind, fields: tuple[object, ...], row: RunRow) -> None:
    rows, observer = rows_of(kind)
    rows.add([fields])
    rows.flush(all_of_them=False)
    assert observer.batches == []
    rows.flush(all_of_them=True)
    [batch] = observer.batches
    assert (batch.kind, batch.service, batch.source, batch.rows) == (kind, "orders", "host:2:b", [row])
    assert loads(dumps(batch)) == batch


def test_full_batches_go_at_once_and_the_rest_waits() -> None:
    rows, observer = rows_of()
    rows.add([RUN] * (2 * ROWS_PER_RECORD + 1))
    rows.flush(all_of_them=False)
    assert [len(batch.rows) for batch in observer.batches] == [ROWS_PER_RECORD, ROWS_PER_RECORD]
    rows.flush(all_of_them=True)
    rows.flush(all_of_them=True)
    assert [len(batch.rows) for batch in observer.batches[2:]] == [1]


def test_the_row_that_a_dead_executor_could_not_write_is_made_from_the_record() -> None:
    rows, observer = rows_of()
    found = headers(retries=2, bridge_epoch="7", bridge_deliveries="1")
    rows.reconstruct(entry(headers=found), "success", 10.0, 11.0, "x")
    rows.flush(all_of_them=True)
    assert observer.rows == [
        RunRow("id-1", 2, 0, "orders.place", "kafka", "success", 10.0, 11.0, 7, 2, 5, deliveries=1, detail="x")
    ]


@pytest.mark.parametrize(
    ("kind", "value", "changed"),
    [
        # A shadow worker executes nothing.
        ("copy", b"[]", {}),
        # There is no identity to write a row under.
        ("run", None, {}),
        ("run", b"[]", {"celery_headers": "not json"}),
        ("run", b"[]", {"celery_headers": '{"retries": "many"}'}),
    ],
)
def test_where_there_can_be_no_row_there_is_none(kind: Kind, value: bytes | None, changed: dict[str, str]) -> None:
    rows, observer = rows_of(kind)
    rows.reconstruct(entry(value=value, headers=headers(**changed)), "dead", 0.0, 0.0)
    rows.flush(all_of_them=True)
    assert observer.batches == []


def test_an_epoch_that_is_no_number_is_none() -> None:
    rows, observer = rows_of()
    rows.reconstruct(entry(headers=headers(bridge_epoch="soon")), "dead", 0.0, 0.0)
    rows.flush(all_of_them=True)
    assert [row.epoch for row in observer.rows] == [0]
