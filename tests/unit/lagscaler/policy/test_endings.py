"""What is told of the last offsets of a log whose consumer does not say whether it is at work on them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lagscaler.policy.decide import decide
from lagscaler.policy.endings import remember
from lagscaler.policy.history import History
from lagscaler.policy.model import PartitionState, Reason, Spec, State
from tests.unit.lagscaler.policy.scenes import KEY, gap, one

SPEC, NOTHING = Spec(), State()

LONG = 40
"""Looks that are more than a consumer that says nothing is waited for."""

WORK, MARKERS, UNTOLD = "work", "markers", "untold"


def told(offsets, spec=SPEC, state=NOTHING, **kwargs):
    """Return what is remembered after looks at pairs of committed and end offset, ten seconds apart."""
    samples = [one(10 * index, committed, end, **kwargs) for index, (committed, end) in enumerate(offsets)]
    for count in range(1, len(samples) + 1):
        state = decide(samples[:count], spec, state).state
    committed, end = offsets[-1]
    if state.awaited == {KEY: committed}:
        assert not state.markers
        return WORK
    assert not state.awaited
    if state.markers == {KEY: end}:
        return MARKERS
    assert not state.markers
    return UNTOLD


RESTS = [(9, 10)] * LONG
"""A transaction's marker has been all that is left for long."""

REACHED = [(10, 10)] * LONG
"""Nothing has been left for long."""


@pytest.mark.parametrize(
    ("offsets", "expected"),
    [
        pytest.param([(10, 10), (10, 11)], WORK, id="one record came"),
        pytest.param([(10, 10), (10, 11), (10, 11), (10, 12)], WORK, id="another one while it is at work"),
        pytest.param([*RESTS, (9, 11)], WORK, id="a record came behind a marker"),
        pytest.param([(10, 10), (10, 12)], WORK, id="a transaction came, or two records"),
        pytest.param([(11, 11), (11, 11), (10, 11)], WORK, id="it is to be done again"),
        pytest.param([(10, 10), (11, 12)], UNTOLD, id="all between two looks"),
        pytest.param([*RESTS, (11, 12)], UNTOLD, id="all between two looks, though there were markers before"),
        pytest.param([(10, 11)] * LONG, UNTOLD, id="that was so before the first look"),
        pytest.param([(None, 11), (10, 11)], UNTOLD, id="a first commit"),
        pytest.param([*RESTS, (9, 12), (11, 12)], MARKERS, id="done after it came, with a leap over what was there"),
        pytest.param([*RESTS, (9, 12), (11, 12), (11, 12)], MARKERS, id="and it stays so"),
        pytest.param([*RESTS, (9, 13), (11, 13), (12, 13)], MARKERS, id="bit by bit"),
        pytest.param([*RESTS, (9, 12), (11, 12), (11, 13)], WORK, id="but then a record came"),
        pytest.param([*REACHED, (10, 12), (11, 12)], UNTOLD, id="done after it came, where the end has been reached"),
        pytest.param([(8, 8), *RESTS, (9, 12), (10, 12), (11, 12)], UNTOLD, id="what was there was a record"),
        pytest.param([(9, 9), *RESTS, (9, 12), (11, 12)], UNTOLD, id="what was there is known to have been a record"),
        pytest.param([*RESTS, (9, 12), (11, 14), (13, 14)], UNTOLD, id="the leap was another time"),
        pytest.param([(9, 10), (9, 12), (11, 12)], UNTOLD, id="done after it came, not seen for long enough"),
        pytest.param([(n, 100) for n in range(50, 100)], UNTOLD, id="the end of a backlog that was always there"),
        pytest.param([(10, 10), (10, 11), (11, 11)], UNTOLD, id="nothing is left"),
        pytest.param([(10, 10), (10, 13)], UNTOLD, id="too much is left for markers"),
        pytest.param([(None, 0), (None, 1)], UNTOLD, id="nothing was ever committed"),
    ],
)
def test_what_the_looks_show(offsets, expected):
    assert told(offsets) == expected


def test_an_owner_that_says_how_busy_it_is_tells_it_itself():
    assert told([(10, 10), (10, 11)], busy=0.0) == UNTOLD


def test_a_marker_that_comes_alone_is_no_work():
    """Who reads what is not committed yet has the records long before the marker."""
    assert told([(10, 10), (10, 11)], Spec(read_committed=False)) == UNTOLD


@pytest.mark.parametrize(
    ("state", "offsets", "expected"),
    [
        pytest.param(State(awaited={KEY: 10}), [(10, 11)], WORK, id="the same record"),
        pytest.param(State(awaited={KEY: 10}), [(10, 12)], WORK, id="another one has come"),
        pytest.param(State(awaited={KEY: 10}), [(11, 12)], UNTOLD, id="it was done meanwhile"),
        pytest.param(State(markers={KEY: 12}), [(11, 12)], MARKERS, id="the same markers"),
        pytest.param(State(markers={KEY: 12}), [(11, 13)], UNTOLD, id="something has come"),
        pytest.param(State(phantoms={KEY: 11}), [(10, 11)], UNTOLD, id="written by a release that did not tell"),
    ],
)
def test_after_a_restart(state, offsets, expected):
    assert told(offsets, state=state) == expected


def test_what_was_not_seen_is_not_forgotten():
    state = State(awaited={KEY: 10}, markers={("orders", 1): 12})
    assert remember([gap(0, 1)], SPEC, state) == state
    away = replace(gap(0, 1), gaps={})
    assert remember([away], SPEC, state) == State()


class Consumer:
    """One consumer that says nothing of itself, looked at every ten seconds."""

    def __init__(self, **kwargs):
        self.spec = Spec(**kwargs)
        self.history, self.state = History(self.spec.window), State()
        self.at, self.replicas = 0, 1

    def look(self, committed, end, seconds=10):
        """Return the decisions of so many seconds, each of which is acted on."""
        decisions = []
        for _ in range(round(seconds / 10)):
            member, members = ("a", 1) if self.replicas else (None, 0)
            sample = one(self.at, committed, end, replicas=self.replicas, members=members, member=member)
            self.history.add(sample)
            decision = decide(self.history, self.spec, self.state)
            self.state, self.replicas = decision.state, decision.replicas
            self.at += 10
            decisions.append(decision)
        return decisions

    def restart(self):
        """Forget what a new process of the operator does not know."""
        self.history = History(self.spec.window)


class TestTheLastRecord:
    """It takes half an hour, and no commit comes from it."""

    def test_it_is_shown_until_it_is_done(self):
        consumer = Consumer()
        consumer.look(100, 100, 100)
        decisions = consumer.look(100, 101, 1800)
        assert {decision.lag for decision in decisions} == {1}
        assert {decision.partitions.get(KEY) for decision in decisions[13:]} == {PartitionState.STALLED}
        assert consumer.look(101, 101)[-1].partitions == {}

    @pytest.mark.parametrize("before", [[], [(100, 103)], [(101, 103)], [(100, 103), (102, 103)]])
    def test_its_consumer_is_not_taken_away(self, before):
        """Whether it came alone, or others before it were done: seen after it had come, or between the same looks."""
        consumer = Consumer(to_zero=True, idle_after=600)
        consumer.look(100, 100, 400)
        for committed, end in before:
            consumer.look(committed, end)
        committed, end = (102, 103) if before else (100, 101)
        decisions = consumer.look(committed, end, 1800)
        assert {decision.replicas for decision in decisions} == {1}
        assert consumer.look(end, end, 620)[-1].replicas == 0

    def test_nor_after_a_restart_of_the_operator(self):
        consumer = Consumer(to_zero=True)
        consumer.look(100, 100, 100)
        consumer.look(100, 101, 200)
        consumer.restart()
        decisions = consumer.look(100, 101, 1800)
        assert {decision.replicas for decision in decisions} == {1}
        assert decisions[-1].partitions == {KEY: PartitionState.STALLED}

    def test_nor_where_it_has_been_taken_for_a_marker(self):
        """By a release that did not tell the two apart."""
        consumer = Consumer(to_zero=True)
        consumer.state = State(phantoms={KEY: 101}, idle_since=1.0)
        assert {decision.replicas for decision in consumer.look(100, 101, 1800)} == {1}

    def test_at_zero_it_is_waiting(self):
        consumer = Consumer(to_zero=True)
        consumer.look(100, 100, 400)
        assert consumer.replicas == 0
        assert consumer.look(100, 101)[-1].reason is Reason.ACTIVATED


class TestMarkers:
    def test_what_cannot_be_told_is_no_alarm_and_keeps_the_last_replica(self):
        consumer = Consumer(to_zero=True)
        consumer.look(100, 100, 100)
        decision = consumer.look(101, 102, 1800)[-1]
        assert decision.partitions == {KEY: PartitionState.PHANTOM}
        assert (decision.lag, decision.replicas) == (0, 1)
        assert decision.sentence.endswith("; not to zero, because what is left in orders-0 may be a record at work.")

    def test_without_to_zero_there_is_nothing_to_say_of_it(self):
        consumer = Consumer()
        consumer.look(100, 100, 100)
        assert "zero" not in consumer.look(101, 102, 1800)[-1].sentence

    def test_what_is_surely_a_marker_does_not_keep_it(self):
        consumer = Consumer(to_zero=True)
        consumer.look(99, 100, 600)
        assert consumer.replicas == 1
        consumer.look(99, 102)
        decisions = consumer.look(101, 102, 680)
        assert decisions[-1].replicas == 0
        assert consumer.look(101, 102)[-1].reason is Reason.IDLE

    def test_which_a_restart_does_not_change(self):
        consumer = Consumer(to_zero=True)
        consumer.look(99, 100, 600)
        consumer.look(99, 102)
        consumer.look(101, 102, 400)
        consumer.restart()
        assert consumer.look(101, 102, 320)[-1].replicas == 0
