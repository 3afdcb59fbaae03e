"""The ring of samples."""

from __future__ import annotations

from itertools import pairwise

import pytest

from lagscaler.policy.history import History
from tests.unit.lagscaler.policy.scenes import NOW, gap, one


def times(history):
    return [sample.at - NOW for sample in history]


@pytest.mark.parametrize("poll", [1, 5, 10, 30, 60])
@pytest.mark.parametrize("window", [60, 600, 3600])
def test_its_length_is_bounded_and_its_window_full(poll, window):
    history = History(window, (one(at, at, at) for at in range(0, 3 * window, poll)))
    assert len(history) <= 130
    seen = history[-1].at - history[0].at
    assert window <= seen <= window + max(poll, window / 60) + 60
    assert times(history) == sorted(times(history))


def test_the_last_minute_is_complete():
    history = History(600, (one(at, at, at) for at in range(1000)))
    assert times(history)[-61:] == list(range(939, 1000))


def test_steps_of_what_is_older_are_even():
    history = History(600, (one(at, at, at) for at in range(2000)))
    old = [at for at in times(history) if at < 1939]
    assert {round(later - earlier) for earlier, later in pairwise(old)} <= {9, 10, 11}


def test_incomplete_samples_are_forgotten_first():
    history = History(600)
    for at in range(0, 300, 10):
        history.add(gap(at, 3) if at % 100 == 50 else one(at, at, at))
    assert [at for at in times(history) if at % 100 == 50] == [250]


def test_a_clock_that_goes_back():
    history = History(600, [one(0, 0, 0), one(10, 1, 1), one(20, 2, 2)])
    history.add(one(10, 5, 5))
    assert times(history) == [0, 10]


def test_it_is_a_sequence():
    history = History(600, [one(0, 0, 0), one(10, 1, 1)])
    assert [sample.at for sample in reversed(history)] == [NOW + 10, NOW]
    assert history[-1].at == NOW + 10
    assert len(history[0:1]) == 1
    history.clear()
    assert not history
