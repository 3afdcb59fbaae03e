from __future__ import annotations

import ast

import pytest

from taskbridge.scan.constants import NOT_CONSTANT, seconds, value

NAMES = {name: ast.parse(text, mode="eval").body for name, text in {"DAY": "24 * 3600", "A": "B", "B": "A"}.items()}


def expression(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body


@pytest.mark.parametrize(
    ("text", "found"),
    [("'x.y'", "x.y"), ("-5", -5), ("2 * DAY + 1", 172_801), ("DAY / 2", 43_200.0), ("True", True), ("None", None)],
)
def test_what_is_written_out_is_known(text: str, found: object) -> None:
    assert value(expression(text), NAMES) == found


@pytest.mark.parametrize("text", ["x", "f()", "A", "1 / 0", "'a' * 3", "settings.WAIT"])
def test_what_only_the_program_knows_is_not(text: str) -> None:
    assert value(expression(text), NAMES) is NOT_CONSTANT


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("90", 90.0),
        ("2 * DAY", 172_800.0),
        ("timedelta(days=1, hours=1)", 90_000.0),
        ("datetime.timedelta(1, 30)", 86_430.0),
        ("now() + timedelta(minutes=5)", 300.0),
        ("timedelta(minutes=5) + timezone.now()", 300.0),
        ("timedelta(days=n)", None),
        ("True", None),
        ("some()", None),
        ("when", None),
    ],
)
def test_how_long_something_waits(text: str, found: float | None) -> None:
    assert seconds(expression(text), NAMES) == found
