"""Conditions and merge patches."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lagscaler.resources.conditions import Condition, condition_of, merge_patch, truth, written
from tests.unit.lagscaler.fakes import merged


def test_a_condition_moves_its_time_with_its_status_only() -> None:
    ready = Condition("Ready", "True", "Auto", "fine")
    first = written([ready], [], 1, 1_800_000_000)
    same = written([Condition("Ready", "True", "Paused", "still")], first, 2, 1_800_000_100)
    other = written([Condition("Ready", "False", "TargetMissing", "gone")], same, 3, 1_800_000_200)
    assert [one[0]["lastTransitionTime"] for one in (first, same, other)] == [
        "2027-01-15T08:00:00Z", "2027-01-15T08:00:00Z", "2027-01-15T08:03:20Z",
    ]  # fmt: skip
    assert (same[0]["reason"], same[0]["message"], same[0]["observedGeneration"]) == ("Paused", "still", 2)
    assert condition_of({"conditions": other}, "Ready")["status"] == "False"
    assert condition_of({}, "Ready") == {}
    assert [truth(value) for value in (True, False, None)] == ["True", "False", "Unknown"]


@pytest.mark.parametrize(
    ("before", "after", "patch"),
    [
        ({}, {}, {}),
        ({"a": 1}, {"a": 1}, {}),
        ({"a": 1}, {"a": 2, "b": 3}, {"a": 2, "b": 3}),
        ({"a": 1, "b": 2}, {"b": 2}, {"a": None}),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "d": 3}}, {"a": {"c": None, "d": 3}}),
        ({"a": [1, 2]}, {"a": [2]}, {"a": [2]}),
        ({"a": {"b": 1}}, {"a": 1}, {"a": 1}),
    ],
)
def test_a_patch_says_what_changes(before: dict[str, Any], after: dict[str, Any], patch: dict[str, Any]) -> None:
    assert merge_patch(before, after) == patch


leaves = st.booleans() | st.integers() | st.text(max_size=3) | st.lists(st.integers(), max_size=2)
documents = st.recursive(
    st.dictionaries(st.sampled_from("abc"), leaves, max_size=3),
    lambda inner: st.dictionaries(st.sampled_from("abc"), leaves | inner, max_size=3),
    max_leaves=6,
)


@given(documents, documents)
def test_a_patch_leads_from_one_document_to_the_other(before: dict[str, Any], after: dict[str, Any]) -> None:
    patch = merge_patch(before, after)
    assert merged(before, patch) == after
    assert bool(patch) == (repr(before) != repr(after)) or before == after
