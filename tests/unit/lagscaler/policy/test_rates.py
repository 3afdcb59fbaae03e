"""Records a second."""

from __future__ import annotations

import pytest

from lagscaler.policy.forecast import pause, trend
from lagscaler.policy.model import PartitionSample, Sample, Spec, State
from lagscaler.policy.picture import draw
from lagscaler.policy.rates import ago, arrived, arriving, finished, increments
from tests.unit.lagscaler.policy.scenes import KEY, NOW, one


def load(*rates, step=10):
    """Return samples of a partition to which so much came in each step."""
    end, samples = 0.0, [one(0, 0, 0)]
    for count, rate in enumerate(rates, start=1):
        end += rate * step
        samples.append(one(count * step, end, end))
    return samples


def test_ago():
    samples = load(1, 1, 1)
    assert [ago(samples, seconds).at - NOW for seconds in (0, 10, 15, 30, 99)] == [30, 20, 10, 0, 0]


def test_what_arrived_and_what_was_finished():
    old, new = one(0, 10, 100, beyond=5), one(10, 60, 300, beyond=0)
    assert arrived(new, old, [KEY]) == [20]
    assert finished(new, old, [KEY]) == [4.5]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param(one(10, 10, 100), one(10, 60, 300), id="no time passed"),
        pytest.param(one(20, 10, 100), one(10, 60, 300), id="the clock went back"),
        pytest.param(one(0, 60, 300), one(10, 10, 100), id="offsets went back"),
        pytest.param(Sample(NOW, {}, 1, 1), one(10, 10, 100), id="the partition is new"),
        pytest.param(one(0, 10, 100), Sample(NOW + 10, {}, 1, 1), id="the partition is gone"),
    ],
)
def test_where_nothing_can_be_said(old, new):
    assert arrived(new, old, [KEY]) == [0]
    assert finished(new, old, [KEY]) == [0]


def test_a_first_commit_is_not_work():
    assert finished(one(10, 5000, 5000), one(0, None, 5000), [KEY]) == [0]


def test_quick_to_rise_slow_to_fall():
    rising = load(*[10] * 10, 50, 50)
    assert arriving(rising, [KEY], latency=60, poll=10) == [50]
    falling = load(*[50] * 10, 10, 10)
    assert arriving(falling, [KEY], latency=60, poll=10)[0] > 30


def test_a_short_objective_looks_at_less():
    falling = load(*[50] * 60, *[10] * 10, step=1)
    assert arriving(falling, [KEY], latency=6, poll=1) == [10]
    assert arriving(falling, [KEY], latency=60, poll=1)[0] > 30


def test_increments():
    samples = [one(0, 0, 100), one(10, 0, 150), Sample(NOW + 20, {}, 1, 1), one(30, 0, 140), one(40, 0, 160)]
    assert increments(samples, [KEY]) == [(10, [50]), (10, [0]), (10, [0]), (10, [20])]


class TestTrend:
    def factor(self, *rates):
        return trend(draw(load(*rates), Spec(), State()), 60)

    def test_growth_goes_on(self):
        assert self.factor(*[10] * 6, *[20] * 6, *[30] * 6) == pytest.approx(1 + 10 / 60 * 60 / 30)

    def test_a_step_is_none(self):
        assert self.factor(*[10] * 12, *[100] * 6) == 1

    def test_a_fall_is_none(self):
        assert self.factor(*[30] * 6, *[20] * 6, *[10] * 6) == 1

    def test_too_little_was_seen(self):
        assert self.factor(10, 20, 30) == 1

    def test_partitions_that_come_and_go(self):
        def at(seconds, end, *numbers):
            partitions = {("orders", number): PartitionSample(0, end, end) for number in numbers}
            return Sample(NOW + seconds, partitions, 1, 1)

        samples = [at(0, 0, 0, 1), at(60, 10, 0), at(120, 10, 0), at(180, 100, 0, 1)]
        assert trend(draw(samples, Spec(), State()), 60) == 1

    def test_no_more_than_twice(self):
        assert self.factor(*[1] * 6, *[1000] * 6, *[3000] * 6) <= 2


@pytest.mark.parametrize(("latency", "expected"), [(60, 8), (3600, 8), (10, 1.5), (1, 0.15)])
def test_a_pause_leaves_a_short_objective_possible(latency, expected):
    assert pause(Spec(latency=latency)) == pytest.approx(expected)
