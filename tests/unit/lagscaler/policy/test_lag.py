"""Lag in records and in seconds: the cases that other tools got wrong."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lagscaler.policy.lag import baselines, lost_commits, records_behind, resumes_at, seconds_behind
from lagscaler.policy.model import Gap, PartitionSample, Sample
from tests.unit.lagscaler.policy.scenes import KEY, NOW, one


@pytest.mark.parametrize(
    ("committed", "start", "end", "reset", "baseline", "expected"),
    [
        pytest.param(40, 0, 100, "earliest", None, 40, id="where it committed"),
        pytest.param(0, 0, 100, "latest", None, 0, id="zero is an offset"),
        pytest.param(120, 0, 100, "earliest", None, 100, id="beyond the last stable offset: nothing is left"),
        pytest.param(40, 60, 100, "earliest", None, 60, id="retention went past it"),
        pytest.param(40, 60, 100, "latest", None, 100, id="retention went past it, and what is there is skipped"),
        pytest.param(40, 60, 100, "latest", 70, 70, id="retention went past it, since 70 it is awaited"),
        pytest.param(None, 10, 100, "earliest", None, 10, id="never committed: from the beginning"),
        pytest.param(None, 10, 100, "none", None, 10, id="never committed, and nobody may begin"),
        pytest.param(None, 10, 100, "latest", None, 100, id="never committed: from the end"),
        pytest.param(None, 10, 100, "latest", 80, 80, id="never committed: from the end as it was first seen"),
        pytest.param(None, 90, 100, "latest", 80, 90, id="the end as first seen is gone from the log"),
        pytest.param(None, 10, 60, "latest", 80, 60, id="the topic was made anew"),
    ],
)
def test_where_a_group_resumes(committed, start, end, reset, baseline, expected):
    assert resumes_at(PartitionSample(start, end, committed), reset, baseline) == expected


@pytest.mark.parametrize(
    ("partition", "resume", "expected"),
    [
        pytest.param(PartitionSample(0, 100, 40), 40, 60, id="all of it"),
        pytest.param(PartitionSample(0, 100, 40, beyond=15), 40, 45, id="what is finished beyond is done"),
        pytest.param(PartitionSample(0, 100, 40, beyond=70), 40, 0, id="never negative"),
        pytest.param(PartitionSample(60, 100, 40, beyond=15), 60, 40, id="beyond an offset that is gone says nothing"),
        pytest.param(PartitionSample(0, 100, None, beyond=15), 0, 100, id="beyond no offset says nothing"),
        pytest.param(PartitionSample(0, 100, 40, beyond=-5), 40, 60, id="nonsense is ignored"),
    ],
)
def test_records_behind(partition, resume, expected):
    assert records_behind(partition, resume) == expected


class TestBaselines:
    def test_the_first_sight_counts(self):
        first = baselines(one(0, None, 100), "latest", {})
        assert first == {KEY: 100}
        assert baselines(one(10, None, 150), "latest", first) == {KEY: 100}

    def test_a_commit_ends_it(self):
        assert baselines(one(10, 120, 150), "latest", {KEY: 100}) == {}

    def test_a_topic_made_anew_begins_anew(self):
        assert baselines(one(10, None, 7), "latest", {KEY: 100}) == {KEY: 7}

    def test_others_have_none(self):
        assert baselines(one(10, None, 7), "earliest", {KEY: 100}) == {}

    def test_a_partition_that_was_not_answered_for_keeps_its_own(self):
        unseen = Sample(NOW, {}, 1, 1, gaps={Gap.NO_LEADER: "orders-0 has no leader"})
        assert baselines(unseen, "latest", {KEY: 100}) == {KEY: 100}


class TestLostCommits:
    def test_one_that_was_never_seen_was_not_lost(self):
        assert lost_commits([one(0, None, 100)], {}) == {}
        assert lost_commits([one(0, None, 100), one(10, None, 100)], {}) == {}

    def test_it_was_there_until_it_was_last_seen(self):
        history = [one(0, 40, 100), one(10, 40, 100), one(20, None, 100)]
        assert lost_commits(history, {}) == {KEY: NOW + 10}
        assert lost_commits([*history, one(30, None, 100)], {KEY: NOW + 10}) == {KEY: NOW + 10}

    def test_a_look_that_does_not_tell_is_no_look_without_a_commit(self):
        unseen = Sample(NOW + 10, {}, 1, 1, gaps={Gap.NO_LEADER: "orders-0 has no leader"})
        assert lost_commits([one(0, 40, 100), unseen, one(20, None, 100)], {}) == {KEY: NOW}
        assert lost_commits([one(0, None, 100), unseen], {KEY: NOW - 50}) == {KEY: NOW - 50}

    def test_it_is_known_longer_than_samples_are_kept(self):
        assert lost_commits([one(5000, None, 100)], {KEY: NOW}) == {KEY: NOW}

    def test_a_commit_ends_it_and_so_does_the_partition(self):
        assert lost_commits([one(0, None, 100), one(10, 3, 100)], {KEY: NOW - 50}) == {}
        assert lost_commits([one(0, None, 100), Sample(NOW + 10, {}, 1, 1)], {KEY: NOW - 50}) == {}

    @pytest.mark.parametrize("at", [NOW + 1, -1.0, 1e300])
    @pytest.mark.parametrize("sample", [one(0, None, 100), Sample(NOW, {}, 1, 1, gaps={Gap.OTHER: "x"})])
    def test_a_time_that_cannot_be_is_forgotten(self, sample, at):
        assert lost_commits([sample], {KEY: at}) == {}


class TestSeconds:
    def test_between_two_samples_arrivals_are_even(self):
        history = [one(0, 0, 100), one(10, 0, 200), one(20, 150, 300)]
        assert seconds_behind(history, KEY, 150) == 15

    def test_at_a_sample(self):
        history = [one(0, 0, 100), one(10, 0, 200), one(20, 150, 300)]
        assert seconds_behind(history, KEY, 200) == 10

    def test_the_last_record_of_a_quiet_log_is_as_old_as_it_is(self):
        """The end did not move: the record came right after the last sample that ended before it."""
        history = [one(0, 0, 100), one(10, 100, 101), one(200, 100, 101), one(400, 100, 101)]
        assert seconds_behind(history, KEY, 100) == 400

    def test_after_a_restart_kafka_was_asked(self):
        history = [one(0, 50, 300, first_unread_at=NOW - 84)]
        assert seconds_behind(history, KEY, 50) == 84

    def test_what_kafka_said_before_holds_for_what_is_older_than_the_samples(self):
        history = [one(0, 50, 300, first_unread_at=NOW - 84), one(10, 60, 310)]
        assert seconds_behind(history, KEY, 60) == 94

    def test_without_an_answer_it_is_at_least_as_old_as_what_was_seen(self):
        assert seconds_behind([one(0, 50, 300), one(30, 60, 310)], KEY, 60) == 30

    def test_a_topic_made_anew_has_no_older_records(self):
        history = [one(0, 900, 1000), one(10, 900, 1010), one(20, 0, 40), one(30, 0, 60)]
        assert seconds_behind(history, KEY, 0) == 20

    def test_a_partition_that_is_new(self):
        history = [Sample(NOW, {}, 1, 1), one(10, 0, 5), one(20, 3, 8)]
        assert seconds_behind(history, KEY, 3) == 10

    @given(
        ends=st.lists(st.integers(0, 1000), min_size=1, max_size=12),
        times=st.lists(st.floats(0, 1000), min_size=12, max_size=12),
        resume=st.floats(0, 1000),
    )
    def test_never_negative_and_never_unknown(self, ends, times, resume):
        history = [one(at, 0, end) for at, end in zip(sorted(times), ends, strict=False)]
        seconds = seconds_behind(history, KEY, resume)
        assert 0 <= seconds <= history[-1].at - history[0].at
