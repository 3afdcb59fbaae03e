"""What so many replicas would make of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lagscaler.policy.assignment import sticky
from lagscaler.policy.demand import after, longest_wait, replayed, suffices, sufficient

rates = st.lists(st.floats(0, 500), min_size=1, max_size=16)


def even(count):
    return lambda replicas: [sticky([], replicas, count)]


def test_the_worst_replica_decides():
    assert longest_wait([100, 300, 50], [[0, 2], [1]], 50) == 6


@pytest.mark.parametrize(
    ("backlog", "rate", "seconds", "expected"),
    [
        pytest.param([100, 0], [0, 0], 1, [0, 0], id="worked off"),
        pytest.param([300, 100], [0, 0], 1, [225, 75], id="shared by what is there"),
        pytest.param([0, 0], [150, 50], 10, [750, 250], id="grows where more comes than is done"),
        pytest.param([500, 0], [100, 0], 0, [500, 0], id="no time, no change"),
    ],
)
def test_after(backlog, rate, seconds, expected):
    assert after(backlog, rate, [[0, 1]], 100, seconds) == pytest.approx(expected)


class TestSuffices:
    def test_each_replica_must_meet_its_own(self):
        assert suffices([60, 60, 30, 30], [[0, 2], [1, 3]], 100)
        assert not suffices([60, 60, 30, 30], [[0, 1], [2, 3]], 100)

    def test_no_replica_helps_one_that_has_a_partition_of_its_own(self):
        assert suffices([500, 40], [[0], [1]], 100)

    def test_a_hot_partition_with_a_trifle_beside_it(self):
        groups = [[0, 1], *([index] for index in range(2, 12))]
        demand = [500, 10, *[50] * 10]
        assert suffices(demand, groups, 100, hot={0})
        assert not suffices([500, 60, *[50] * 10], groups, 100, hot={0})


class TestSufficient:
    @pytest.mark.parametrize(
        ("demand", "expected"),
        [
            pytest.param([0] * 12, 1, id="one at least"),
            pytest.param([25] * 12, 3, id="exactly three"),
            pytest.param([26] * 12, 4, id="a little more"),
            pytest.param([100] * 12, 12, id="one each"),
            pytest.param([900] * 12, 12, id="no more than partitions"),
            pytest.param([45] * 12, 6, id="five would have three partitions in some: uneven"),
        ],
    )
    def test_table(self, demand, expected):
        assert sufficient(demand, 100, even(len(demand))) == expected

    def test_hot_partitions_buy_no_useless_replicas(self):
        """One partition at five times a replica's capacity: without the rule all would be bought to isolate it."""
        demand = [500, *[4] * 23]
        assert sufficient(demand, 100, even(24), hot={0}) < 12

    @given(rates, st.integers(0, 15), st.floats(0, 300))
    def test_more_demand_never_needs_fewer(self, demand, index, more):
        larger = list(demand)
        larger[index % len(demand)] += more
        predict = even(len(demand))
        assert sufficient(larger, 100, predict) >= sufficient(demand, 100, predict)

    @given(rates)
    def test_from_one_to_the_number_of_partitions(self, demand):
        assert 1 <= sufficient(demand, 100, even(len(demand))) <= len(demand)


class TestReplay:
    def test_the_longest_wait(self):
        rows = [(10, [500, 100]), (10, [3000, 100]), (10, [0, 0])]
        assert replayed(rows, [[0], [1]], 100, limit=60) == 20

    def test_what_is_idle_is_lost(self):
        """A replica cannot work ahead: a quiet time before a burst does not shorten the wait."""
        rows = [(100, [0]), (10, [2000])]
        assert replayed(rows, [[0]], 100, limit=60) == 10

    def test_it_stops_beyond_the_limit(self):
        rows = [(10, [5000]), (10, [90_000])]
        assert 30 < replayed(rows, [[0]], 100, limit=30) <= 50
