"""Observations survive the journey through Kafka."""

from __future__ import annotations

import json
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskbridge.exceptions import MalformedRecord
from taskbridge.observation import Batch, CopyRow, DispatchRow, Kind, Outcome, RunRow, dumps, identity, loads
from taskbridge.record import Identity

text = st.text(st.characters(exclude_categories=["Cs"]))
moments = st.floats(0, 4e9)
counts = st.integers(0, 2**40)
dispatches = st.builds(
    DispatchRow,
    id=text,
    retries=counts,
    nesting=counts,
    task=text,
    key=text,
    route=st.sampled_from(["celery", "kafka", "delayed"]),
    epoch=counts,
    seq=counts,
    at=moments,
    copy=st.sampled_from(["none", "sent", "lost"]),
    body=text,
    stage=text,
    ambiguous=counts,
    fallback=text,
    due=moments,
)
runs = st.builds(
    RunRow,
    id=text,
    retries=counts,
    nesting=counts,
    task=text,
    side=st.sampled_from(["celery", "kafka"]),
    outcome=st.sampled_from(get_args(Outcome)),
    started=moments,
    finished=moments,
)
copies = st.builds(
    CopyRow,
    id=text,
    retries=counts,
    nesting=counts,
    task=text,
    epoch=counts,
    producer=text,
    seq=counts,
    partition=counts,
    offset=counts,
    decoded=st.booleans(),
    resolved=st.booleans(),
    bound=st.booleans(),
    body=text,
)
ROWS = {"dispatch": dispatches, "run": runs, "copy": copies}


@given(st.data(), st.sampled_from(get_args(Kind)), text, text)
def test_a_batch_survives_the_journey(data: st.DataObject, kind: Kind, service: str, source: str) -> None:
    batch = Batch(kind, service, source, data.draw(st.lists(ROWS[kind], max_size=3)))

    assert loads(dumps(batch)) == batch


def document(**changes: object) -> bytes:
    found = {"v": 1, "kind": "run", "service": "orders", "source": "host:1:ab", "rows": []}
    return json.dumps(found | changes).encode()


def test_a_field_that_a_later_version_adds_is_ignored() -> None:
    row = {"id": "a", "retries": 0, "nesting": 0, "task": "t", "side": "kafka", "outcome": "success"}
    (found,) = loads(document(rows=[row | {"started": 1.0, "finished": 2.0, "colour": "red"}])).rows

    assert identity(found) == Identity("a", 0, 0)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "cannot be read"),
        (b"{", "cannot be read"),
        (b"[]", "cannot be read"),
        (document(v=2), "format version 2"),
        (document(kind="walk"), "unknown kind 'walk'"),
        (document(rows=[{"id": "a"}]), "cannot be read"),
    ],
)
def test_what_is_no_observation(value: bytes | None, words: str) -> None:
    with pytest.raises(MalformedRecord, match=words):
        loads(value)


@pytest.mark.parametrize(("count", "pauses"), [(0, 0), (1, 0), (16, 0), (17, 1), (500, 31)])
def test_many_rows_are_one_document_written_with_pauses(count: int, pauses: int) -> None:
    rows = [
        DispatchRow(f"id-{n}", 0, 0, "t.one", "k", "kafka", 1, n, 1.0, "none", "ab", "live", 0, "", 0.0)
        for n in range(count)
    ]
    batch = Batch("dispatch", "orders", "web:1:ab", rows)
    paused: list[int] = []
    value = dumps(batch, lambda: paused.append(1))
    assert loads(value) == batch
    assert value == dumps(batch)
    assert len(paused) == pauses
