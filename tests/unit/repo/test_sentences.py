"""The errors that the documentation explains are errors that the code has."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache

import pytest

from tests.documents import ROOT, codes, rows, section

TROUBLE = ROOT / "docs" / "howto" / "when-something-fails.md"

PLACE = "…"


@cache
def sentences() -> str:
    """Return every text in the code, one per line, with an ellipsis where a value comes in."""
    return "\n".join(
        " ".join(_text(node).split())
        for path in (ROOT / "bridge" / "taskbridge").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.JoinedStr | ast.Constant | ast.BinOp)
    )


def _text(node: ast.expr) -> str:
    match node:
        case ast.Constant(value=str(value)):
            return re.sub(r"%[sdr]", PLACE, value)
        case ast.JoinedStr(values=values):
            return "".join(map(_text, values))
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _text(left) + _text(right)
    return PLACE


def quoted() -> Iterator[str]:
    text = TROUBLE.read_text()
    yield from (cell for row in rows(section(TROUBLE, "A command refuses"), "sentence") for cell in codes(row[0]))
    for span in re.findall(r"`([^`]+)`", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)):
        if PLACE in span:
            yield " ".join(span.split())


def known(sentence: str) -> bool:
    """Return whether some text has the parts of a sentence, in order."""
    parts = [re.escape(part.strip()) for part in sentence.split(PLACE) if part.strip()]
    return re.search(".*?".join(parts).replace("`", "`?"), sentences().replace("`", "")) is not None


@pytest.mark.parametrize("sentence", sorted({*quoted()} - {PLACE}))
def test_an_error_that_is_explained_exists(sentence: str) -> None:
    assert known(sentence)


def test_an_error_that_does_not_exist_is_found() -> None:
    assert not known("Kafka at … is on holiday")
    assert known("Kafka at … does not answer")
