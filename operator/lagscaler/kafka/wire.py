"""
The encoding of Kafka's protocol: big-endian numbers, strings and arrays, in the plain and in the compact form.

Source: https://kafka.apache.org/protocol.html, "Protocol Primitive Types".
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from typing import Self, TypeVar

T = TypeVar("T")

_INT8 = struct.Struct(">b")
_INT16 = struct.Struct(">h")
_INT32 = struct.Struct(">i")
_INT64 = struct.Struct(">q")

_VARINT_BITS = 35
"""Bits that five bytes of a variable-length number carry, the most that an unsigned 32-bit number needs."""


class MalformedError(Exception):
    """Bytes that are not what the protocol says; the sentence tells what was expected."""


class Writer:
    """A message that grows; every method returns the writer."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def done(self) -> bytes:
        """Return what was written."""
        return bytes(self._bytes)

    def int8(self, value: int) -> Self:
        self._bytes += _INT8.pack(value)
        return self

    def int16(self, value: int) -> Self:
        self._bytes += _INT16.pack(value)
        return self

    def int32(self, value: int) -> Self:
        self._bytes += _INT32.pack(value)
        return self

    def int64(self, value: int) -> Self:
        self._bytes += _INT64.pack(value)
        return self

    def unsigned(self, value: int) -> Self:
        """Write a number from 0 in as few bytes as it takes."""
        while value >= 0x80:
            self._bytes.append(value & 0x7F | 0x80)
            value >>= 7
        self._bytes.append(value)
        return self

    def string(self, value: str) -> Self:
        encoded = value.encode()
        self._bytes += _INT16.pack(len(encoded)) + encoded
        return self

    def compact_string(self, value: str | None) -> Self:
        if value is None:
            return self.unsigned(0)
        encoded = value.encode()
        self.unsigned(len(encoded) + 1)
        self._bytes += encoded
        return self

    def blob(self, value: bytes) -> Self:
        self._bytes += _INT32.pack(len(value)) + value
        return self

    def array(self, items: list[T], write: Callable[[Writer, T], object]) -> Self:
        self.int32(len(items))
        return self._each(items, write)

    def compact_array(self, items: list[T], write: Callable[[Writer, T], object]) -> Self:
        self.unsigned(len(items) + 1)
        return self._each(items, write)

    def no_tags(self) -> Self:
        """Write that there are no tagged fields: how every structure of a flexible version ends."""
        return self.unsigned(0)

    def raw(self, value: bytes) -> Self:
        """Write bytes as they are."""
        self._bytes += value
        return self

    def _each(self, items: Iterable[T], write: Callable[[Writer, T], object]) -> Self:
        for item in items:
            write(self, item)
        return self


class Reader:
    """A message that is read from its beginning; every method raises MalformedError when it ends too early."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def int8(self) -> int:
        return int(self._unpack(_INT8))

    def int16(self) -> int:
        return int(self._unpack(_INT16))

    def int32(self) -> int:
        return int(self._unpack(_INT32))

    def int64(self) -> int:
        return int(self._unpack(_INT64))

    def unsigned(self) -> int:
        """Read a number that was written in as few bytes as it takes."""
        value = 0
        for shift in range(0, _VARINT_BITS, 7):
            (byte,) = self.take(1)
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise MalformedError("a variable-length number has no end")

    def string(self) -> str:
        """Read a string; null reads as empty."""
        return self._text(self.int16())

    def compact_string(self) -> str:
        """Read a string; null reads as empty."""
        return self._text(self.unsigned() - 1)

    def blob(self) -> bytes:
        """Read bytes; null reads as none."""
        return self.take(max(0, self.int32()))

    def array(self, read: Callable[[Reader], T]) -> list[T]:
        """Read an array; null reads as empty."""
        return [read(self) for _ in range(self.count())]

    def compact_array(self, read: Callable[[Reader], T]) -> list[T]:
        """Read an array; null reads as empty."""
        return [read(self) for _ in range(max(0, self.unsigned() - 1))]

    def count(self) -> int:
        """Read how many items of an array follow; null reads as none."""
        return max(0, self.int32())

    def rows(self, layout: struct.Struct) -> Iterator[tuple[int, ...]]:
        """Read an array of structures that all have the same fixed layout."""
        return layout.iter_unpack(self.take(self.count() * layout.size))

    def skip_numbers(self) -> None:
        """Pass over an array of 32-bit numbers."""
        self.take(self.count() * _INT32.size)

    def skip_tags(self) -> None:
        """Pass over tagged fields."""
        for _ in range(self.unsigned()):
            self.unsigned()
            self.take(self.unsigned())

    def take(self, length: int) -> bytes:
        """Read so many bytes."""
        end = self._at + length
        if end > len(self._data):
            raise MalformedError(f"{length} bytes were expected at {self._at}, and there are {len(self._data)} in all")
        taken = self._data[self._at : end]
        self._at = end
        return taken

    def _text(self, length: int) -> str:
        if length <= 0:
            return ""
        try:
            return self.take(length).decode()
        except UnicodeDecodeError as error:
            raise MalformedError(f"a string is not UTF-8: {error}") from error

    def _unpack(self, layout: struct.Struct) -> int:
        at = self._at
        self._at = at + layout.size
        try:
            (value,) = layout.unpack_from(self._data, at)
        except struct.error as error:
            raise MalformedError(f"{layout.size} bytes were expected at {at}") from error
        return int(value)
