"""Who will own what."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lagscaler.policy.assignment import consecutive, current, predictor, sticky
from lagscaler.policy.model import PartitionSample, Sample
from tests.unit.lagscaler.policy.scenes import NOW, keys


def sample(owners, *, members=None, ready=1, replicas=1):
    partitions = {
        key: PartitionSample(0, 0, 0, member=owner) for key, owner in zip(keys(len(owners)), owners, strict=True)
    }
    return Sample(NOW, partitions, replicas, ready, members)


@given(groups=st.integers(1, 12), replicas=st.integers(1, 12), partitions=st.integers(1, 30), seed=st.randoms())
def test_sticky_is_balanced_complete_and_keeps_what_it_can(groups, replicas, partitions, seed):
    replicas, groups = min(replicas, partitions), min(groups, partitions)
    order = list(range(partitions))
    seed.shuffle(order)
    before = [order[number::groups] for number in range(groups)]
    after = sticky(before, replicas, partitions)
    assert sorted(index for group in after for index in group) == list(range(partitions))
    assert max(map(len, after)) - min(map(len, after)) <= 1
    if groups == replicas:
        assert sorted(map(sorted, after)) == sorted(map(sorted, before))
    if groups < replicas:  # who was there gives away, and takes nothing but what nobody has
        stayed = sum(len(set(group) & set(old)) for group in after for old in before if set(group) <= set(old))
        assert stayed >= partitions // replicas * groups


def test_range_goes_topic_by_topic():
    topics = [("a", number) for number in range(3)] + [("b", number) for number in range(3)]
    assert consecutive(topics, 2) == [[0, 1, 3, 4], [2, 5]]


class TestCurrent:
    def test_as_it_is(self):
        assert current(sample(["x", "y", "x", "y"]), keys(4)) == [[0, 2], [1, 3]]

    def test_what_nobody_owns_goes_to_who_has_least(self):
        assert current(sample(["x", None, "x", "y"]), keys(4)) == [[0, 2], [3, 1]]

    def test_nothing_known_but_how_many_there_are(self):
        groups = current(sample([None] * 4, members=2), keys(4))
        assert sorted(map(len, groups)) == [2, 2]

    @pytest.mark.parametrize(
        ("members", "ready", "replicas", "expected"), [(None, 3, 4, 3), (0, 0, 2, 2), (9, 9, 9, 4)]
    )
    def test_how_many_there_are(self, members, ready, replicas, expected):
        assert len(current(sample([None] * 4, members=members, ready=ready, replicas=replicas), keys(4))) == expected


class TestPredictor:
    def test_the_present_number_is_as_it_is(self):
        groups = [[0, 3], [1, 2]]
        assert predictor(groups, keys(4))(2) == [groups]

    def test_range_is_known_by_what_it_made(self):
        topics = [("a", number) for number in range(3)] + [("b", number) for number in range(3)]
        predict = predictor(consecutive(topics, 2), topics)
        assert predict(3) == [consecutive(topics, 3)]

    def test_a_sticky_one_may_move_any_partition(self):
        likely = predictor([[0, 5, 2], [4, 1, 3]], keys(6))(3)
        assert len(likely) > 1
        for groups in likely:
            assert sorted(map(len, groups)) == [2, 2, 2]

    def test_and_is_predicted_the_same_every_time(self):
        groups = [[0, 5, 2], [4, 1, 3]]
        assert predictor(groups, keys(6))(3) == predictor(groups, keys(6))(3)
