"""Changes of a status."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lagscaler.kubernetes.patches import changes, operations


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({}, {}, {}),
        ({"a": 1}, {"a": 1}, {}),
        ({"a": 1}, {"a": 2, "b": 3}, {"a": 2, "b": 3}),
        ({"a": 1, "b": 2}, {"b": 2}, {"a": None}),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1}}, {"a": {"b": 1}}),
        ({"a": [1, 2]}, {"a": [2]}, {"a": [2]}),
        ({"a": 0}, {"a": 0.0, "b": False}, {"b": False}),
    ],
)
def test_members_that_differ_are_given_whole(
    before: dict[str, Any], after: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert changes(before, after) == expected


def applied(body: dict[str, Any], patch: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a resource after a JSON Patch, as RFC 6902 has it, in as far as it is about members of objects."""
    body = {**body, "status": dict(body["status"])} if "status" in body else dict(body)
    for one in patch:
        *way, name = one["path"].removeprefix("/").split("/")
        place = body
        for step in way:
            place = place[step]
        match one["op"]:
            case "test":
                assert place[name] == one["value"]
            case "add":
                place[name] = one["value"]
            case "remove":
                del place[name]
    return body


values = st.integers() | st.sampled_from("pq") | st.dictionaries(st.sampled_from("xy"), st.integers())
statuses = st.dictionaries(st.sampled_from("abcd"), values)


@given(statuses, statuses, statuses)
def test_it_leads_there_from_what_the_server_has(
    before: dict[str, Any], after: dict[str, Any], stored: dict[str, Any]
) -> None:
    patch = changes(before, after)
    body = {"metadata": {"uid": "u1"}}
    whole = applied(body, operations("u1", changes({}, after), first=True))
    assert whole == {**body, "status": after}
    assert applied({**body, "status": before}, operations("u1", patch, first=False))["status"] == after
    # What it has may be newer than what we know.
    found = applied({**body, "status": stored}, operations("u1", patch, first=False))["status"]
    assert {name: found.get(name) for name in patch} == patch
    assert {name: found[name] for name in found if name not in patch} == {
        name: stored[name] for name in stored if name not in patch
    }
    with pytest.raises(AssertionError):
        applied({"metadata": {"uid": "heir"}, "status": before}, operations("u1", patch, first=False))
