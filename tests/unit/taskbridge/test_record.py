"""Messages as records, and back."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskbridge.exceptions import MalformedRecord
from taskbridge.record import REQUIRED_HEADERS, Identity, Message, Record, Stamp, decode, encode

text = st.text(st.characters(exclude_categories=["Cs"]))
messages = st.builds(
    Message,
    task=text,
    task_id=text,
    body=st.binary(),
    content_type=text,
    content_encoding=text,
    headers=st.binary(),
    properties=st.binary(),
)
stamps = st.builds(
    Stamp, route=st.sampled_from(["celery", "kafka"]), epoch=st.integers(0), producer=text, seq=st.integers(0)
)

MESSAGE = Message("t.one", "id-1", b"[[],{},{}]", "application/json", "utf-8", b'{"retries": 2}', b"{}")
STAMP = Stamp("kafka", 3, "host:1:ab", 7)


@given(messages, text, stamps)
def test_a_message_survives_the_journey(message: Message, key: str, stamp: Stamp) -> None:
    record = encode(message, key, stamp)
    found, rest = decode(record.value, record.headers)

    assert found == message
    assert record.key == key.encode()
    assert rest == {
        "bridge-route": stamp.route,
        "bridge-epoch": str(stamp.epoch),
        "bridge-producer": stamp.producer,
        "bridge-seq": str(stamp.seq),
    }


def test_the_format_of_a_record() -> None:
    record = encode(MESSAGE, "order-42", STAMP, traceparent="00-ab-cd-01")

    assert record == Record(
        b"order-42",
        b"[[],{},{}]",
        [
            ("content-type", b"application/json"),
            ("content-encoding", b"utf-8"),
            ("task", b"t.one"),
            ("id", b"id-1"),
            ("celery-headers", b'{"retries": 2}'),
            ("celery-properties", b"{}"),
            ("bridge-route", b"kafka"),
            ("bridge-epoch", b"3"),
            ("bridge-producer", b"host:1:ab"),
            ("bridge-seq", b"7"),
            ("traceparent", b"00-ab-cd-01"),
        ],
    )


def test_a_header_is_replaced_not_repeated() -> None:
    record = encode(MESSAGE, "k", STAMP).with_headers(bridge_deliveries="1").with_headers(bridge_deliveries="2")

    assert [pair for pair in record.headers if pair[0] == "bridge-deliveries"] == [("bridge-deliveries", b"2")]
    assert decode(record.value, record.headers)[0] == MESSAGE


@pytest.mark.parametrize("name", REQUIRED_HEADERS)
def test_a_record_without_a_required_header_is_malformed(name: str) -> None:
    record = encode(MESSAGE, "k", STAMP)

    with pytest.raises(MalformedRecord, match=f"lacks the header {name}"):
        decode(record.value, [pair for pair in record.headers if pair[0] != name])


@pytest.mark.parametrize(
    ("value", "headers", "words"),
    [
        (None, encode(MESSAGE, "k", STAMP).headers, "has no value"),
        (b"", None, "lacks the headers content-type, content-encoding, task"),
        (b"", [*encode(MESSAGE, "k", STAMP).headers, ("note", b"\xff")], "not UTF-8"),
    ],
)
def test_other_malformed_records(value: bytes | None, headers: list[tuple[str, bytes]] | None, words: str) -> None:
    with pytest.raises(MalformedRecord, match=words):
        decode(value, headers)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, Identity("id-1", 0, 0)),
        ({"retries": None}, Identity("id-1", 0, 0)),
        ({"retries": 2, "replaced_task_nesting": 1}, Identity("id-1", 2, 1)),
    ],
)
def test_what_tells_one_execution_from_another(headers: dict[str, object], expected: Identity) -> None:
    message = Message("t.one", "id-1", b"", "", "", json.dumps(headers).encode(), b"{}")

    assert message.identity() == expected


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        (b"{", "celery-headers is not JSON"),
        (b"[]", "must be a JSON object, not list"),
        (b'{"retries": "2"}', "must be integers"),
    ],
)
def test_headers_that_cannot_be_read(headers: bytes, words: str) -> None:
    with pytest.raises(MalformedRecord, match=words):
        Message("t.one", "id-1", b"", "", "", headers, b"{}").identity()
