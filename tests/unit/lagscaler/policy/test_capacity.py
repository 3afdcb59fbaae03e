"""What a replica can do, as it shows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lagscaler.policy.assignment import current
from lagscaler.policy.capacity import learn, measured, undisturbed
from lagscaler.policy.model import PartitionSample, Sample
from tests.unit.lagscaler.policy.scenes import NOW, keys

POLL = 10.0


def group(at, positions, *, lag=0.0, busy=None, owners=None, rebalancing=False, ready=None):
    """Return a sample of partitions at those positions, each with so much lag, and of its own member."""
    owners = owners or [f"pod-{number}" for number in range(len(positions))]
    partitions = {
        key: PartitionSample(0, position + lag, position, busy=busy, member=owner)
        for key, position, owner in zip(keys(len(positions)), positions, owners, strict=True)
    }
    members = len(set(owners))
    return Sample(NOW + at, partitions, members, members if ready is None else ready, members, rebalancing)


def shown(samples, known=None):
    names = sorted(samples[-1].partitions)
    return measured(samples, names, current(samples[-1], names), known, POLL)


def test_rate_by_busy():
    samples = [group(at, [at * 40.0, at * 20.0], busy=0.5) for at in (0, 10, 20)]
    assert shown(samples) == pytest.approx(60)


def test_hardly_busy_says_nothing():
    assert shown([group(at, [at * 2.0], busy=0.02) for at in (0, 10, 20)]) is None


def test_of_others_only_what_never_ran_dry():
    assert shown([group(at, [at * 80.0], lag=5000) for at in (0, 10, 20)]) == pytest.approx(80)
    assert shown([group(at, [at * 80.0], lag=100) for at in (0, 10, 20)]) is None


def test_one_moment_without_lag_in_between_is_enough():
    samples = [group(0, [0.0], lag=5000), group(10, [800.0]), group(20, [1600.0], lag=5000)]
    assert shown(samples) is None


def test_the_median_replica_counts():
    samples = [group(at, [at * 90.0, at * 100.0, at * 10.0], lag=5000) for at in (0, 10, 20)]
    assert shown(samples) == pytest.approx(90)


def test_more_than_was_thought_possible_is_believed():
    samples = [group(at, [at * 80.0]) for at in (0, 10, 20)]
    assert shown(samples, known=50) == pytest.approx(80)
    assert shown(samples, known=100) is None


def test_nothing_is_learned_across_a_rebalance():
    samples = [
        group(0, [0.0, 0.0]),
        group(10, [800.0, 800.0], owners=["a", "b"]),
        group(20, [900.0, 900.0], rebalancing=True, owners=["a", "b"]),
        group(30, [1700.0, 1700.0], owners=["a", "b"]),
        group(40, [2500.0, 2500.0], owners=["a", "b"]),
    ]
    assert [sample.at - NOW for sample in undisturbed(samples, POLL)] == [40]
    assert len(undisturbed(samples[:3], POLL)) == 1
    assert shown(samples) is None


def test_a_partition_that_stands_still_fills_nobody():
    samples = [group(at, [at * 20.0, 7.0], owners=["a", "a"]) for at in (0, 10, 20)]
    stuck = [
        Sample(
            sample.at,
            {key: replace(one, end=one.committed + (9000 if key[1] else 0)) for key, one in sample.partitions.items()},
            1,
            1,
            1,
        )
        for sample in samples
    ]
    assert shown(stuck) is None


def test_a_trickle_is_no_load():
    """Two records a second that are committed every few seconds: there is always a little lag."""
    samples = [group(at, [at * 2.0], lag=lag) for at, lag in ((0, 14), (10, 12), (20, 15))]
    assert shown(samples) is None
    assert shown(samples, known=100) is None


def test_how_busy_somebody_was_while_nobody_answered_is_not_known():
    before = [group(at, [at * 80.0], busy=1.0) for at in (0, 10)]
    after = [group(at, [at * 80.0], busy=0.4) for at in (160, 170, 180)]
    assert [sample.at - NOW for sample in undisturbed([*before, *after], POLL)] == [160, 170, 180]
    assert shown([*before, after[0]]) is None


class TestOneThatCommitsRarely:
    """Every 30 s, of 80 records a second, and polled every 10 s."""

    def samples(self, until, lag):
        return [group(at, [at // 30 * 30 * 80.0], lag=lag) for at in range(0, until, 10)]

    def test_it_is_measured_from_commit_to_commit(self):
        for until in range(120, 300, 10):
            assert shown(self.samples(until, lag=9000)) == pytest.approx(80)

    def test_two_commits_are_too_few(self):
        assert shown(self.samples(80, lag=9000)) is None


def test_only_the_last_half_minute_is_looked_at():
    samples = [group(at, [0.0]) for at in range(0, 100, 5)]
    assert samples[-1].at - undisturbed(samples, POLL)[0].at == 25


def test_learning_is_gradual():
    assert learn(None, 80, 10) == 80
    assert learn(100, None, 10) == 100
    assert 80 < learn(100, 80, 10) < 100
    assert learn(100, 80, 600) == pytest.approx(80, rel=0.01)


@pytest.mark.parametrize("nonsense", [0.0, -1.0, float("nan"), float("inf")])
def test_nonsense_is_not_learned(nonsense):
    assert learn(100, nonsense, 10) == 100
