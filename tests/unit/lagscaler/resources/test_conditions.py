"""Conditions."""

from __future__ import annotations

from lagscaler.resources.conditions import Condition, condition_of, truth, written


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
