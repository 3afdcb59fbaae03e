"""How many records an executor is given at once."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskbridge.worker.batching import MOST, TARGET, UNKNOWN, Estimator

QUICK, SLOW, NEW = "quick", "slow", "new"


@pytest.fixture
def estimator() -> Estimator:
    found = Estimator()
    found.learn(QUICK, TARGET / 8)
    found.learn(SLOW, TARGET * 50)
    return found


@pytest.mark.parametrize(
    ("tasks", "count"),
    [
        ([], 0),
        # Eight of these fill the target.
        ([QUICK] * 7, 7),
        ([QUICK] * 100, 8),
        # A slow one goes alone, and ends the batch of quick ones before it.
        ([SLOW, QUICK], 1),
        ([QUICK, QUICK, SLOW, QUICK], 2),
        # So does one that was never seen.
        ([NEW, NEW], 1),
        ([QUICK, NEW], 1),
    ],
)
def test_a_batch_is_measured_in_seconds(estimator: Estimator, tasks: list[str], count: int) -> None:
    assert estimator.batch(tasks) == count


def test_the_quickest_tasks_make_the_longest_batch() -> None:
    estimator = Estimator()
    estimator.learn(QUICK, 0.0)
    assert estimator.batch([QUICK] * (2 * MOST)) == MOST


def test_the_average_follows_and_one_slow_call_does_not_rule() -> None:
    estimator = Estimator()
    assert estimator.seconds(QUICK) == UNKNOWN
    estimator.learn(QUICK, 0.001)
    assert estimator.seconds(QUICK) == 0.001
    estimator.learn(QUICK, 0.011)
    assert estimator.seconds(QUICK) == pytest.approx(0.003)
    for _ in range(40):
        estimator.learn(QUICK, 0.001)
    assert estimator.seconds(QUICK) == pytest.approx(0.001, rel=0.01)


@given(
    st.dictionaries(st.sampled_from("abcdef"), st.floats(0, 1)),
    st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=400),
)
@settings(max_examples=60, deadline=None)
def test_laws(known: dict[str, float], tasks: list[str]) -> None:
    estimator = Estimator()
    for task, seconds in known.items():
        estimator.learn(task, seconds)
    count = estimator.batch(tasks)
    assert 1 <= count <= min(MOST, len(tasks))
    if count > 1:
        assert sum(estimator.seconds(task) for task in tasks[:count]) <= TARGET
    if count < min(MOST, len(tasks)):
        assert sum(estimator.seconds(task) for task in tasks[: count + 1]) > TARGET
