"""Counts of what executors did."""

from __future__ import annotations

import pytest

from taskbridge.worker import tally as module
from taskbridge.worker.snapshot import DURATION_BOUNDS, Run
from taskbridge.worker.tally import OTHERS, Tally


def test_tasks_by_outcome_and_duration() -> None:
    tally = Tally()
    for task, outcome, seconds in (
        ("a", "success", 0.001),
        ("a", "success", 0.0011),
        ("a", "failure", 7_200.0),
        # The clock was set back in between.
        ("b", "success", -3.0),
    ):
        tally.ended(task, outcome, seconds)
    runs = tally.runs()
    assert runs["a", "failure"] == Run(1, 7_200.0)
    assert runs["b", "success"] == Run(1, 0.0)
    assert runs["a", "success"].count == 2
    assert runs["a", "success"].seconds == pytest.approx(0.0021)
    counts = tally.durations()
    assert len(counts) == len(DURATION_BOUNDS) + 1
    assert (counts[0], counts[1], counts[-1], sum(counts)) == (2, 1, 1, 4)


def test_names_that_nobody_checked_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_TASKS", 3)
    tally = Tally()
    for number in range(10):
        tally.ended(f"task-{number}", "ignored", 0.1)
    tally.ended("task-0", "ignored", 0.1)
    assert {task: run.count for (task, _), run in tally.runs().items()} == {
        "task-0": 2,
        "task-1": 1,
        "task-2": 1,
        OTHERS: 7,
    }
