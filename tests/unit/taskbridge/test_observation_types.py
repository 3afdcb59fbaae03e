"""An observation that another program wrote wrongly is refused as a whole, before it can spoil a report."""

from __future__ import annotations

import json
from typing import Any

import pytest

from taskbridge.exceptions import MalformedRecord
from taskbridge.observation import Batch, DispatchRow, RunRow, dumps, loads

DISPATCH = DispatchRow("a1", 0, 0, "t.one", "a1", "kafka", 3, 1, 1_700_000_000.0, "none", "b0d1", "live")
RUN = RunRow("a1", 0, 0, "t.one", "kafka", "success", 1.0, 2.0)


def document(**fields: Any) -> dict[str, Any]:
    found = json.loads(dumps(Batch("dispatch", "orders", "web:1:aa", [DISPATCH])))
    found["rows"][0].update(fields)
    return dict(found)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"id": 7}, "id must be str, not 7"),
        ({"seq": "1"}, "seq must be int"),
        ({"seq": True}, "seq must be int, not True"),
        ({"at": "yesterday"}, "at must be float"),
        ({"at": -1.0}, "at is no time: -1.0"),
        ({"at": 10**400}, "at is no time: 1000"),
        ({"due": float("nan")}, "due is no time: nan"),
        ({"due": float("inf")}, "due is no time: inf"),
        ({"route": "moon"}, "unknown route 'moon'"),
        ({"copy": "perhaps"}, "unknown copy 'perhaps'"),
        ({"key": None}, "key must be str, not None"),
    ],
)
def test_a_field_of_a_wrong_type_or_word_is_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(MalformedRecord, match=words):
        loads(json.dumps(document(**fields)).encode())


@pytest.mark.parametrize("field", ["service", "source"])
def test_a_batch_needs_its_service_and_source(field: str) -> None:
    with pytest.raises(MalformedRecord, match="must be strings"):
        loads(json.dumps({**document(), field: 5}).encode())


def test_an_unknown_outcome_is_refused() -> None:
    found = json.loads(dumps(Batch("run", "orders", "web:1:aa", [RUN])))
    found["rows"][0]["outcome"] = "fine"
    with pytest.raises(MalformedRecord, match="unknown outcome 'fine'"):
        loads(json.dumps(found).encode())


def test_whole_seconds_and_unknown_fields_are_taken() -> None:
    batch = loads(json.dumps(document(at=1_700_000_000, colour="blue")).encode())
    assert batch == Batch("dispatch", "orders", "web:1:aa", [DISPATCH])


def test_a_row_of_an_older_writer_has_defaults() -> None:
    found = document()
    del found["rows"][0]["due"]
    (row,) = loads(json.dumps(found).encode()).rows
    assert isinstance(row, DispatchRow)
    assert row.due == 0.0
