"""How far a copy comes, without its task being called."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from taskbridge.adapters.celery.digest import arguments_digest
from taskbridge.adapters.celery.inspection import CopyInspection
from taskbridge.observation import CopyRow
from taskbridge.worker.channel import WorkItem
from tests.unit.taskbridge.adapters.celery.messages import item_of, message_of


@pytest.fixture
def inspection(app: Any) -> CopyInspection:
    @app.task(name="orders.explodes", shared=False)
    def explodes(order: object) -> None:
        raise AssertionError("a copy was executed")

    app.finalize()
    return CopyInspection(app)


def row_of(inspection: CopyInspection, item: WorkItem) -> CopyRow:
    found = inspection.inspect(item)
    assert (found.executed, found.action) == (False, "")
    return CopyRow(*found.row(1.0, 2.0))


def test_a_good_copy_is_decoded_resolved_bound_and_digested_and_not_executed(
    inspection: CopyInspection, app: Any
) -> None:
    row = row_of(inspection, item_of(message_of(app, "orders.explodes", "o-1", retries=2)))
    assert (row.decoded, row.resolved, row.bound, row.error) == (True, True, True, "")
    assert (row.id, row.retries, row.task, row.epoch, row.producer, row.seq) == (
        "id-1", 2, "orders.explodes", 4, "host:1:a", 9,
    )  # fmt: skip
    assert (row.partition, row.offset, row.args) == (2, 5, arguments_digest(["o-1"], {}))
    assert len(row.body) == 16


def test_the_bound_self_of_a_task_is_no_argument(inspection: CopyInspection, app: Any) -> None:
    assert row_of(inspection, item_of(message_of(app, "orders.retry", "o-1"))).bound


@pytest.mark.parametrize(
    ("args", "task", "changed", "reached", "error"),
    [
        (("o-1",), "orders.of_tomorrow", {}, (True, False, False), "resolve: no task 'orders.of_tomorrow'"),
        ((), "orders.place", {}, (True, True, False), "bind: missing a required argument: 'order'"),
        ((1, 2, 3), "orders.place", {}, (True, True, False), "bind: too many positional arguments"),
        ((1,), "orders.place", {"body": b"not json"}, (False, False, False), "decode: the body cannot be decoded"),
        ((1,), "orders.place", {"headers": b"[]"}, (False, False, False), "decode: celery-headers must be"),
        (
            (1,),
            "orders.place",
            {"content_type": "application/x-python-serialize"},
            (False, False, False),
            "decode: content of type application/x-python-serialize is not accepted",
        ),
    ],
)
def test_where_a_copy_stops(
    inspection: CopyInspection,
    app: Any,
    args: tuple[object, ...],
    task: str,
    changed: dict[str, Any],
    reached: tuple[bool, bool, bool],
    error: str,
) -> None:
    row = row_of(inspection, item_of(replace(message_of(app, task, *args), **changed)))
    assert (row.decoded, row.resolved, row.bound) == reached
    assert row.error.startswith(error)
    assert row.args == ""


def test_a_record_that_is_no_message_has_a_row_without_an_identity(inspection: CopyInspection) -> None:
    row = row_of(inspection, WorkItem(0, None, [], 2, 5))
    assert (row.id, row.task, row.offset, row.decoded) == ("", "", 5, False)
    assert row.error.startswith("decode: the record has no value")
