"""What the supervisor reads in a record without decoding it."""

from __future__ import annotations

from typing import Any

import pytest

from taskbridge.record import Headers
from taskbridge.worker.entry import header, size_of
from tests.unit.taskbridge.worker.entries import entry, headers


@pytest.mark.parametrize(
    ("found", "text"),
    [
        ([], ""),
        ([("a", b"x")], ""),
        ([("task", b"orders.place"), ("task", b"later")], "orders.place"),
        # A null header, and one that is not UTF-8, as any producer may write them.
        ([("task", None)], ""),
        ([("task", b"\xff")], "�"),
    ],
)
def test_header(found: Any, text: str) -> None:
    assert header(found, "task") == text


@pytest.mark.parametrize(
    ("more", "deliveries"),
    [({}, 0), ({"bridge_deliveries": "2"}, 2), ({"bridge_deliveries": "two"}, 0), ({"bridge_deliveries": "-1"}, 0)],
)
def test_deliveries(more: dict[str, str], deliveries: int) -> None:
    assert entry(headers=headers(**more)).deliveries == deliveries


@pytest.mark.parametrize(
    ("value", "found", "size"), [(None, [], 0), (b"abc", [("de", b"f")], 6), (b"", [("de", None)], 2)]
)
def test_size(value: bytes | None, found: Headers, size: int) -> None:
    assert size_of(value, found) == size
