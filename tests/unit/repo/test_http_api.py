"""The page on the HTTP API says what the API itself says."""

from __future__ import annotations

import pytest

from taskbridge.contrib.django.api.auth import READ_ONLY, SHORTEST
from taskbridge.contrib.django.api.openapi import DOCUMENT
from taskbridge.contrib.django.api.problems import TITLES
from taskbridge.contrib.django.api.reading import FIELDS, LARGEST, MOST_ROWS
from taskbridge.contrib.django.rules import ACTIONS, Condition
from tests.documents import ROOT, codes, rows, section

PAGE = ROOT / "docs" / "reference" / "http-api.md"


def test_every_place() -> None:
    documented = {codes(row[0])[0] for row in rows(section(PAGE, "Places"), "place")}
    assert documented == {
        f"{method.upper()} {path}"
        for path, item in DOCUMENT["paths"].items()
        for method in item
        if method in {"get", "post"}
    }


def test_every_field_of_a_request() -> None:
    table = rows(section(PAGE, "Transitions"), "field")
    described = DOCUMENT["components"]["schemas"]["TransitionRequest"]["properties"]
    assert [codes(row[0])[0] for row in table] == list(FIELDS) == list(described)
    assert codes(table[0][1]) == list(ACTIONS)


def test_every_status() -> None:
    documented = {int(row[0]): row[1] for row in rows(section(PAGE, "Problems"), "status")}
    assert set(documented) == set(TITLES)
    described = {
        int(status)
        for item in DOCUMENT["paths"].values()
        for method in ("get", "post")
        for status in item.get(method, {}).get("responses", ())
    }
    assert described == set(TITLES) | {200}
    assert {name for name in codes(documented[422]) if name != "conditions"} == set(Condition.__slots__)


@pytest.mark.parametrize(
    "words",
    [
        f"at least {SHORTEST} characters",
        f"`{READ_ONLY}` grants reading only",
        f"at most {MOST_ROWS}",
        f"{LARGEST // 1024} KiB",
    ],
)
def test_limits(words: str) -> None:
    assert words in " ".join(PAGE.read_text().split())
