"""The encoding, there and back, and bytes that are not of it."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lagscaler.kafka.wire import MalformedError, Reader, Writer


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_numbers_of_variable_length(value: int) -> None:
    assert Reader(Writer().unsigned(value).done()).unsigned() == value


@pytest.mark.parametrize(
    ("value", "encoded"), [(0, "00"), (1, "01"), (127, "7f"), (128, "8001"), (300, "ac02"), (2**32 - 1, "ffffffff0f")]
)
def test_numbers_of_variable_length_are_encoded_as_elsewhere(value: int, encoded: str) -> None:
    assert Writer().unsigned(value).done().hex() == encoded


@settings(deadline=None)
@given(st.text(), st.binary(), st.lists(st.integers(-(2**31), 2**31 - 1)))
def test_there_and_back(text: str, blob: bytes, numbers: list[int]) -> None:
    written = Writer().string(text).compact_string(text).compact_string(None).blob(blob)
    written.array(numbers, Writer.int32).compact_array(numbers, Writer.int32).no_tags().int8(-1).int16(-2).int64(-3)
    reader = Reader(written.done())
    assert (reader.string(), reader.compact_string(), reader.compact_string(), reader.blob()) == (text, text, "", blob)
    assert reader.array(Reader.int32) == reader.compact_array(Reader.int32) == numbers
    reader.skip_tags()
    assert (reader.int8(), reader.int16(), reader.int64()) == (-1, -2, -3)


def test_nulls_read_as_nothing() -> None:
    reader = Reader(Writer().int16(-1).int32(-1).int32(-1).unsigned(0).done())
    assert (reader.string(), reader.blob(), reader.array(Reader.int32), reader.compact_array(Reader.int32)) == (
        "", b"", [], [],
    )  # fmt: skip


def test_rows_of_a_fixed_layout_and_arrays_that_are_passed_over() -> None:
    written = Writer().array([(1, 2), (3, 4)], lambda out, row: out.int32(row[0]).int64(row[1]))
    reader = Reader(written.array([7, 8, 9], Writer.int32).int8(5).done())
    assert list(reader.rows(struct.Struct(">iq"))) == [(1, 2), (3, 4)]
    reader.skip_numbers()
    assert reader.int8() == 5


def test_tagged_fields_of_later_versions_are_passed_over() -> None:
    reader = Reader(Writer().unsigned(2).unsigned(0).unsigned(3).raw(b"abc").unsigned(1).unsigned(0).int8(5).done())
    reader.skip_tags()
    assert reader.int8() == 5


@pytest.mark.parametrize(
    ("data", "read"),
    [
        (b"\x00", Reader.int16),
        (b"", Reader.int8),
        (b"\x00\x05abc", Reader.string),
        (b"\x06abc", Reader.compact_string),
        (b"\x00\x02\xff\xfe", Reader.string),
        (b"\xff\xff\xff\xff\xff\xff", Reader.unsigned),
        (b"\x00\x00\x00\x09abc", Reader.blob),
        (b"\x7f\xff\xff\xff", lambda reader: reader.array(Reader.int32)),
        (b"\x01\x00\x09abc", Reader.skip_tags),
    ],
)
def test_what_ends_too_early_or_is_no_text_is_malformed(data: bytes, read: object) -> None:
    assert callable(read)
    with pytest.raises(MalformedError):
        read(Reader(data))
