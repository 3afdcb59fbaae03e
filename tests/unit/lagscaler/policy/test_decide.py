"""The decision, scene by scene."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise

import pytest

from lagscaler.policy.decide import decide
from lagscaler.policy.document import worth_saving
from lagscaler.policy.history import History
from lagscaler.policy.model import Gap, PartitionState, Reason, Sample, Spec, State
from lagscaler.policy.picture import draw
from tests.unit.lagscaler.policy.scenes import KEY, NOW, Group, Loop, gap, one


def settled(rate=250.0, replicas=3, **kwargs):
    """Return a loop in which capacity is known and nothing is due."""
    spec = Spec(**kwargs)
    loop = Loop(Group(replicas=replicas, poll=spec.poll), spec)
    loop.run(rate, 700)
    return loop


def test_without_a_sample_there_is_nothing_to_decide():
    with pytest.raises(ValueError, match="no sample"):
        decide([], Spec(), State())


class TestMore:
    def test_one_jump_that_will_do(self):
        loop = settled()
        decisions = loop.run(900, 300)
        jumps = [decision for decision in decisions if decision.reason is Reason.BEHIND]
        assert len(jumps) == 1
        assert 9 <= jumps[0].replicas <= 12
        assert max(decision.behind for decision in decisions) < 60

    def test_the_sentence_has_the_numbers(self):
        loop = settled()
        decision = next(one for one in loop.steps(900, 300) if one.reason is Reason.BEHIND)
        assert re.fullmatch(
            r"Worst replica \d+ (s|min) behind by the time that help comes at \d+/s, objective 60 s: 3 → \d+\.",
            decision.sentence,
        )

    def test_one_look_is_not_enough_when_there_is_time(self):
        loop = settled()
        assert loop.step(900).reason is Reason.CATCHING_UP

    def test_one_look_is_enough_when_there_is_none(self):
        loop = settled(latency=30)
        assert loop.step(1100).reason is Reason.BEHIND

    def test_a_burst_that_the_objective_absorbs_buys_nothing(self):
        loop = settled()
        decisions = [*loop.run(400, 10), *loop.run(250, 200)]
        assert {decision.replicas for decision in decisions} == {3}

    def test_no_more_than_partitions(self):
        loop = settled()
        assert loop.run(5000, 300)[-1].replicas == 12

    def test_no_more_than_allowed(self):
        loop = settled(max_replicas=5)
        decisions = loop.run(900, 300)
        assert decisions[-1].replicas == 5
        assert decisions[-1].reason is Reason.LIMITED
        assert decisions[-1].needed > 5

    def test_to_find_the_same_again_is_nothing_to_remember(self):
        """What is remembered is written to the resource: not at every look, for hours."""
        loop = settled(max_replicas=3)
        loop.run(900, 100)
        before = loop.state
        assert loop.run(900, 600)[-1].reason is Reason.LIMITED
        assert not worth_saving(before, loop.state)

    def test_a_consumer_that_commits_too_rarely_is_told_how_to_be_scaled(self):
        """Of its capacity nothing is seen, so nothing can be added: that has to be said."""
        group = Group(replicas=6, busy=False, capacity=1000)
        loop = Loop(group)
        for _ in range(90):
            group.run(1200)
            committed = (group.at - NOW) // 200 * 200 * 90.0
            sample = group.sample()
            partitions = {key: replace(one, committed=committed) for key, one in sample.partitions.items()}
            decision = loop.judge(replace(sample, partitions=partitions))
        assert decision.reason is Reason.LEARNING
        assert decision.sentence.endswith("is not known, so none can be added: set capacity.perReplica.")

    def test_replicas_that_are_starting_count(self):
        """Pods that are asked for and not there yet are not asked for again."""
        loop = settled()
        loop.acting = False
        asked = next(decision for decision in loop.steps(900, 100) if decision.reason is Reason.BEHIND)
        for _ in range(3):
            loop.group.run(900)
            decision = loop.judge(replace(loop.group.sample(), replicas=asked.replicas))
            assert decision.replicas == asked.replicas

    def test_a_budget_that_is_used_up_holds_what_can_wait(self):
        loop = settled(rebalances_per_hour=2, latency=300)
        loop.state = replace(loop.state, changes=(loop.group.at - 100, loop.group.at - 50))
        reasons = {decision.reason for decision in loop.run(400, 600)}
        assert Reason.BUDGET in reasons
        assert loop.group.replicas == 3

    def test_a_missed_objective_may_overdraw_it(self):
        loop = settled(rebalances_per_hour=0)
        loop.run(1100, 300)
        assert loop.group.replicas > 3


class TestFewer:
    def test_when_it_has_been_quiet_for_long_enough(self):
        loop = settled(rate=900, replicas=12, scale_down_after=300)
        reasons = [decision.reason for decision in loop.run(200, 2000)]
        first = reasons.index(Reason.SURPLUS)
        assert first * 10 >= 200
        assert loop.group.replicas == 3

    def test_not_so_soon_after_an_addition(self):
        loop = settled(cooldown=300)
        loop.run(900, 100)
        decision = loop.run(200, 30)[-1]
        assert decision.reason is Reason.COOLING_DOWN
        assert decision.needed < decision.replicas

    def test_a_burst_that_comes_every_few_minutes_is_kept_for(self):
        loop = Loop(Group(replicas=8))
        for _ in range(12):
            loop.run(700, 60)
            loop.run(50, 240)
        before = len(loop.state.changes)
        worst = 0.0
        for _ in range(6):
            decisions = [*loop.run(700, 60), *loop.run(50, 240)]
            worst = max(worst, *(decision.behind for decision in decisions))
        assert worst < 60
        assert len(loop.state.changes) <= before + 1
        assert loop.group.replicas < 8

    @pytest.mark.parametrize("seconds", [180, 600])
    def test_after_an_outage_it_is_looked_again_first(self, seconds):
        """What came while nobody saw it is known as a mean: that may hide what the replicas are there for."""
        loop = settled(rate=900, replicas=12)
        for _ in range(seconds // 10):
            loop.group.run(100)
            loop.judge(gap(loop.group.at - NOW, 12))
        assert loop.step(900).replicas == 12

    def test_after_a_restart_it_is_looked_again_first(self):
        loop = settled(rate=900, replicas=12, scale_down_after=300)
        loop.run(200, 150)
        loop.restart()
        assert {decision.replicas for decision in loop.run(200, 260)} == {12}

    def test_what_a_reduction_taught(self):
        """Load on one replica that proved too much is not tried again for an hour."""
        loop = settled()
        loop.state = replace(loop.state, strained=70.0, learned_at=loop.group.at)
        decisions = loop.run(130, 900)
        assert decisions[-1].replicas == 2
        loop.state = replace(loop.state, strained=140.0, learned_at=loop.group.at)
        assert loop.run(85, 900)[-1].replicas == 1

    def test_only_what_could_not_be_done_teaches(self):
        """Replicas that are added because Kafka is away, or for a bound, say nothing of what one bears."""
        loop = settled(rate=900, replicas=12, fallback_replicas=10)
        assert next(decision for decision in loop.steps(200, 600) if decision.reason is Reason.SURPLUS)
        for _ in range(25):
            loop.group.run(200)
            loop.judge(gap(loop.group.at - NOW, loop.group.replicas))
        assert loop.group.replicas == 10
        assert loop.state.strained is None
        assert loop.run(200, 1200)[-1].replicas == 3

    def test_nor_does_coming_back_from_zero(self):
        loop = Loop(Group(replicas=3), Spec(to_zero=True, idle_after=60))
        loop.run(250, 700)
        loop.run(20, 180)
        assert loop.run(0, 130)[-1].replicas == 0
        assert loop.step(1).reason is Reason.ACTIVATED
        loop.run(700, 200)
        assert loop.run(100, 1200)[-1].replicas <= 2

    def test_not_while_those_that_were_asked_for_are_starting(self):
        """What waits is worked off before they come: but who knows, they were asked for with a reason."""
        loop = settled()
        loop.acting = False
        asked = next(decision for decision in loop.steps(900, 100) if decision.reason is Reason.BEHIND)
        for _ in range(40):
            loop.group.run(100)
            decision = loop.judge(replace(loop.group.sample(), replicas=asked.replicas))
            assert decision.replicas == asked.replicas

    def test_not_in_the_middle_of_a_burst(self):
        loop = settled(rate=900, replicas=12)
        loop.run(50, 130)
        for _ in range(3):
            assert loop.step(1000).reason is not Reason.SURPLUS

    def test_of_a_consumer_that_says_nothing_a_few_on_trial(self):
        loop = Loop(Group(replicas=10, busy=False))
        replicas = [decision.replicas for decision in loop.run(300, 5400)]
        assert replicas[0] == 10
        assert replicas[-1] < 7
        assert all(old - new <= max(1, old // 5) or new >= 3 for old, new in pairwise(replicas))

    def test_not_on_trial_where_the_objective_is_too_short_for_it(self):
        loop = Loop(Group(replicas=10, busy=False), Spec(latency=20))
        decision = loop.run(300, 1800)[-1]
        assert decision.replicas == 10
        assert "could miss the objective" in decision.sentence


class TestIncomplete:
    def test_nothing_is_taken_away(self):
        loop = settled(rate=900, replicas=12)
        loop.run(100, 150)
        decision = loop.judge(gap(loop.group.at - NOW + 10, 12))
        assert decision.replicas == 12
        assert decision.reason is Reason.INCOMPLETE
        assert "no broker answered" in decision.sentence

    def test_what_is_known_may_ask_for_more(self):
        loop = settled()
        loop.run(900, 10)
        loop.group.run(900)
        known = loop.group.sample()
        partitions = {key: one for key, one in known.partitions.items() if key[1] != 5}
        decision = loop.judge(replace(known, partitions=partitions, gaps={Gap.NO_LEADER: "orders-5 has no leader"}))
        assert decision.replicas > 3
        assert decision.reason is Reason.BEHIND

    @pytest.mark.parametrize(("fallback", "expected"), [(None, 3), (6, 6), (2, 3)])
    def test_the_fallback_after_a_while(self, fallback, expected):
        loop = settled(fallback_replicas=fallback)
        at = loop.group.at - NOW
        decisions = [loop.judge(gap(at + later, loop.group.replicas)) for later in range(10, 250, 10)]
        assert decisions[3].reason is Reason.INCOMPLETE
        assert decisions[-1].reason is Reason.FALLBACK
        assert decisions[-1].replicas == expected

    @pytest.mark.parametrize(("most", "expected"), [(None, 6), (4, 4)])
    def test_nor_does_it_need_to_know_the_partitions(self, most, expected):
        """After a restart of the operator, Kafka has never answered."""
        state = State(last_complete=NOW - 200)
        decision = decide([gap(0, 3)], Spec(fallback_replicas=6, max_replicas=most), state)
        assert (decision.replicas, decision.reason) == (expected, Reason.FALLBACK)
        short = decide([gap(0, 3)], Spec(fallback_replicas=6, min_replicas=5), State(last_complete=NOW - 100))
        assert (short.replicas, short.reason) == (3, Reason.INCOMPLETE)

    def test_even_bounds_take_nothing_away(self):
        decision = decide([gap(0, 7)], Spec(max_replicas=3), State())
        assert decision.replicas == 7


class TestRestart:
    def test_the_first_look_holds(self):
        """The state says that it was behind, and there is a backlog; whether it is being worked off is not known."""
        loop = settled()
        loop.group.ends = [end + 3000 for end in loop.group.ends]
        loop.state = replace(loop.state, breaches=5)
        loop.restart()
        assert loop.step(900).replicas == 3
        assert loop.step(900).replicas > 3


class TestZero:
    SPEC = Spec(to_zero=True, idle_after=60, poll=10)

    def quiet(self, seconds, **kwargs):
        loop = Loop(Group(replicas=1, **kwargs), self.SPEC)
        loop.run(50, 100)
        loop.run(0, 20)
        return loop, loop.run(0, seconds)

    def test_when_nothing_comes(self):
        loop, decisions = self.quiet(100)
        assert decisions[-1].replicas == 0
        assert next(one for one in decisions if one.replicas == 0).reason is Reason.IDLE
        assert loop.step(0).reason is Reason.IDLE

    def test_not_too_early(self):
        _, decisions = self.quiet(30)
        assert decisions[-1].replicas == 1

    def test_not_unless_asked_for(self):
        loop = Loop(Group(replicas=1), replace(self.SPEC, to_zero=False))
        assert loop.run(0, 600)[-1].replicas == 1

    def test_not_while_somebody_is_at_work(self):
        loop, _ = self.quiet(20)
        for _ in range(20):
            loop.group.run(0)
            loop.group.used = {0: 0.1}
            assert loop.judge(loop.group.sample()).replicas == 1

    def test_not_while_something_is_stalled(self):
        loop = Loop(Group(replicas=1), replace(self.SPEC, stall_after=60))
        loop.run(50, 100)
        loop.run(0, 10)
        loop.group.ends[3] += 500
        for _ in range(40):
            loop.group.at += 10
            decision = loop.judge(loop.group.sample())
            assert decision.replicas == 1
        assert decision.reason is Reason.STALLED
        assert decision.partitions == {("orders", 3): PartitionState.STALLED}

    def test_markers_at_the_end_do_not_keep_it(self):
        loop = Loop(Group(replicas=1), replace(self.SPEC, stall_after=60))
        loop.run(50, 100)
        loop.run(0, 10)
        loop.group.ends[3] += 1
        for _ in range(40):
            loop.group.at += 10
            decision = loop.judge(loop.group.sample())
        assert decision.replicas == 0
        assert decision.lag == 0
        assert decision.behind == 0

    def test_a_restart_begins_the_wait_anew(self):
        loop, _ = self.quiet(30)
        loop.restart()
        assert {decision.replicas for decision in loop.run(0, 50)} == {1}

    def test_back_with_as_many_as_it_takes(self):
        loop, _ = self.quiet(100)
        decision = loop.step(1000)
        assert decision.reason is Reason.ACTIVATED
        assert decision.replicas >= 4

    def test_back_with_one_when_nothing_is_known(self):
        decision = decide([one(0, 0, 5, replicas=0, members=0, member=None)], self.SPEC, State())
        assert (decision.replicas, decision.reason) == (1, Reason.ACTIVATED)
        assert decision.sentence == "5 records waiting at zero, more than 0: 0 → 1."

    @pytest.mark.parametrize(("lag", "expected"), [(20, 0), (21, 1)])
    def test_a_lag_that_is_allowed(self, lag, expected):
        sample = one(0, 0, lag, replicas=0, members=0, member=None)
        assert decide([sample], replace(self.SPEC, activation_lag=20), State()).replicas == expected

    def test_at_zero_without_an_answer(self):
        decision = decide([gap(0, 0)], self.SPEC, State())
        assert (decision.replicas, decision.reason) == (0, Reason.INCOMPLETE)

    def test_at_zero_what_is_known_to_wait_is_enough(self):
        sample = replace(
            one(0, 0, 5, replicas=0, members=0, member=None), gaps={Gap.NO_LEADER: "orders-1 has no leader"}
        )
        assert decide([sample], self.SPEC, State()).replicas == 1

    @pytest.mark.parametrize(
        ("spec", "expected"),
        [
            pytest.param({}, (0, Reason.INCOMPLETE), id="none is given"),
            pytest.param({"fallback_replicas": 0}, (0, Reason.INCOMPLETE), id="none is asked for"),
            pytest.param({"fallback_replicas": 2}, (2, Reason.FALLBACK), id="as many as are asked for"),
            pytest.param({"fallback_replicas": 2, "min_replicas": 3}, (3, Reason.FALLBACK), id="no fewer than allowed"),
            pytest.param({"fallback_replicas": 6, "max_replicas": 4}, (4, Reason.FALLBACK), id="no more than allowed"),
            pytest.param({"fallback_replicas": 20}, (12, Reason.FALLBACK), id="no more than partitions"),
        ],
    )
    def test_the_fallback_holds_at_zero_too(self, spec, expected):
        loop = Loop(Group(replicas=0), replace(self.SPEC, **spec))
        assert loop.run(0, 50)[-1].replicas == 0
        seen = loop.group.at - NOW
        decisions = [loop.judge(gap(seen + later, loop.group.replicas)) for later in range(10, 900, 10)]
        early = {(decision.replicas, decision.reason) for decision in decisions[:17]}
        assert early == {(0, Reason.INCOMPLETE)}
        assert {(decision.replicas, decision.reason) for decision in decisions[17:]} == {expected}

    def test_its_sentence(self):
        state = State(last_complete=NOW - 200)
        decision = decide([gap(0, 0)], replace(self.SPEC, fallback_replicas=2), state)
        assert decision.sentence == "Nothing complete was seen for 3 min (no broker answered within 10 s): 0 → 2."

    def test_what_is_known_to_wait_comes_before_the_fallback(self):
        sample = replace(
            one(0, 0, 5, replicas=0, members=0, member=None), gaps={Gap.NO_LEADER: "orders-1 has no leader"}
        )
        state = State(last_complete=NOW - 200)
        decision = decide([sample], replace(self.SPEC, fallback_replicas=3, min_replicas=3), state)
        assert (decision.replicas, decision.reason) == (1, Reason.ACTIVATED)

    def test_zero_where_it_is_not_wanted(self):
        decision = decide(
            [one(0, 5, 5, replicas=0, members=0, member=None)], Spec(min_replicas=2, max_replicas=1), State()
        )
        assert (decision.replicas, decision.reason) == (1, Reason.BOUNDS)


class TestStalled:
    def poisoned(self, partition=3, **kwargs):
        """Return a loop in which nobody gets on with one partition, though the rest is worked off."""
        loop = settled(**kwargs)
        stuck = loop.group.done[partition]
        for _ in range(40):
            loop.group.run(250)
            loop.group.done[partition] = stuck
            loop.group.used = dict.fromkeys(loop.group.used, 0.0)
            yield loop.judge(loop.group.sample())

    def test_it_is_not_fed_more_replicas(self):
        decisions = list(self.poisoned())
        assert decisions[-1].partitions[("orders", 3)] is PartitionState.STALLED
        assert decisions[-1].reason is Reason.STALLED
        assert "orders-3 make" in decisions[-1].sentence
        assert decisions[-1].replicas <= 4
        assert decisions[-1].behind > 200

    def test_a_slow_task_is_none(self):
        loop = settled()
        stuck = loop.group.done[3]
        for _ in range(20):
            loop.group.run(250)
            loop.group.done[3] = stuck
            decision = loop.judge(loop.group.sample())
        assert PartitionState.STALLED not in decision.partitions.values()


class OneAfterTheOther(Group):
    """Consumers that take all they can of their first partition, and the next one when there is nothing left in it."""

    def run(self, rate):
        self.settle()
        for partition in range(self.partitions):
            self.ends[partition] += rate / self.partitions * self.poll
        left = dict.fromkeys(range(self.members), self.capacity * self.poll)
        for partition in range(self.partitions):
            part = min(self.ends[partition] - self.done[partition], left[self.owner(partition)])
            self.done[partition] += part
            left[self.owner(partition)] -= part
        self.at += self.poll


def test_partitions_that_wait_their_turn_buy_replicas():
    """They stand still for an hour, and are not stalled: their owner works off the others, and does not say so."""
    loop = Loop(OneAfterTheOther(replicas=1, partitions=6, capacity=40, busy=False), Spec(latency=600))
    loop.group.ends = [20_000.0] * 6
    decisions = loop.run(100, 3600)
    assert max(decision.replicas for decision in decisions) == 6
    assert decisions[-1].behind < 600
    assert all(PartitionState.STALLED not in decision.partitions.values() for decision in decisions)


class TestHot:
    def test_a_hot_partition_buys_what_helps_the_others(self):
        weights = [30.0, *[1.0] * 11]
        loop = Loop(Group(replicas=2, weights=weights))
        decisions = loop.run(400, 900)
        assert decisions[-1].partitions == {("orders", 0): PartitionState.HOT}
        assert decisions[-1].reason is Reason.HOT
        assert decisions[-1].replicas < 12
        assert "orders-0" in decisions[-1].sentence


class TestIneffective:
    def test_after_twice_nothing_is_added(self):
        """All consumers share a database that does 200 a second, however many they are."""
        loop = Loop(Group(replicas=2, capacity=100, partitions=48))
        for _ in range(300):
            loop.group.capacity = 200 / loop.group.replicas
            decision = loop.step(400)
            if decision.reason is Reason.INEFFECTIVE:
                break
        assert decision.reason is Reason.INEFFECTIVE
        assert "brought nothing twice" in decision.sentence
        stayed = decision.replicas
        assert stayed < 48
        for _ in range(60):
            loop.group.capacity = 200 / loop.group.replicas
            decision = loop.step(400)
        assert decision.replicas == stayed

    def test_until_something_changes(self):
        loop = Loop(Group(replicas=4, capacity=50, partitions=24))
        loop.run(190, 400)
        loop.acting = False
        loop.run(400, 60)
        loop.acting = True
        loop.state = replace(loop.state, ineffective=2, rate_judged=200.0)
        assert {decision.reason for decision in loop.run(400, 60)} == {Reason.INEFFECTIVE}
        loop.group.capacity = 80
        loop.run(800, 60)
        assert loop.state.ineffective == 0
        assert loop.group.replicas > 4


class TestBounds:
    @pytest.mark.parametrize(
        ("replicas", "spec", "expected"),
        [
            pytest.param(1, Spec(min_replicas=3), 3, id="too few"),
            pytest.param(9, Spec(max_replicas=4), 4, id="too many"),
            pytest.param(20, Spec(), 12, id="more than partitions"),
            pytest.param(2, Spec(min_replicas=20), 12, id="at least more than partitions"),
            pytest.param(2, Spec(min_replicas=0), 2, id="at least none is one"),
        ],
    )
    def test_table(self, replicas, spec, expected):
        group = Group(replicas=replicas)
        decision = decide([group.sample()], spec, State())
        assert decision.replicas == expected
        assert (decision.reason is Reason.BOUNDS) == (expected != replicas)

    def test_topics_without_partitions(self):
        decision = decide([Sample(NOW, {}, 2, 2, 2)], Spec(), State())
        assert (decision.replicas, decision.reason) == (2, Reason.LEARNING)


class TestWhatIsSeen:
    def test_lag_and_age(self):
        history = History(600, [one(0, 100, 100, busy=0.1), one(10, 150, 200, busy=0.5), one(20, 150, 300, busy=0.5)])
        decision = decide(history, Spec(), State())
        assert decision.lag == 150
        assert decision.behind == 15
        assert decision.arrival_rate == 10

    def test_offsets_of_latest_count_from_the_first_sight(self):
        spec = Spec(offset_reset="latest")
        first = decide([one(0, None, 1000)], spec, State())
        assert first.lag == 0
        later = decide([one(0, None, 1000), one(10, None, 1040)], spec, first.state)
        assert later.lag == 40

    def test_a_given_capacity_is_not_learned(self):
        loop = settled(capacity=55.0)
        assert loop.step(250).capacity == 55
        assert loop.state.capacity == pytest.approx(100, rel=0.05)

    def test_how_long_a_start_takes(self):
        loop = settled()
        loop.acting = False
        asked = next(decision for decision in loop.steps(900, 100) if decision.reason is Reason.BEHIND)
        for _ in range(5):
            loop.group.run(900)
            loop.judge(replace(loop.group.sample(), replicas=asked.replicas))
        loop.group.replicas = asked.replicas
        loop.group.run(900)
        loop.judge(loop.group.sample())
        assert loop.state.start_delay == pytest.approx(55)
        assert loop.state.asked_at is None

    def test_also_of_consumers_that_are_no_members(self):
        """They assign partitions to themselves: the group has none, only pods tell."""
        loop = settled()
        loop.acting = False
        asked = next(decision for decision in loop.steps(900, 100) if decision.reason is Reason.BEHIND)
        loop.group.replicas = asked.replicas
        loop.group.run(900)
        loop.judge(replace(loop.group.sample(), members=0))
        assert loop.state.asked_at is None

    def test_pods_own_what_no_member_does(self):
        sample = replace(one(0, 100, 100, member=None, members=0), replicas=3, ready=3)
        assert draw([sample], Spec(), State()).owners == 3

    def test_a_short_objective_without_lag_is_met(self):
        loop = Loop(Group(replicas=3, poll=1.0), Spec(latency=2, poll=1.0, scale_down_after=5, cooldown=5))
        decisions = loop.run(100, 60)
        assert decisions[-1].replicas == 2
        assert Reason.CATCHING_UP not in {decision.reason for decision in decisions}

    def test_changes_are_counted_whoever_makes_them(self):
        loop = settled()
        loop.group.replicas = 5
        loop.step(250)
        loop.group.replicas = 4
        loop.step(250)
        assert loop.state.changes == (loop.group.at - 10, loop.group.at)
        assert (loop.state.last_up, loop.state.last_down) == (loop.group.at - 10, loop.group.at)

    def test_a_dry_run_says_the_same_as_long_as_it_is_true(self):
        loop = settled()
        loop.acting = False
        decisions = loop.run(900, 200)
        assert {decision.reason for decision in decisions[3:]} == {Reason.BEHIND}
        assert not [at for at in loop.state.changes if at > loop.group.at - 200]

    def test_the_key_of_a_state(self):
        decision = decide(
            [one(0, 100, 200, members=0, member=None), one(200, 100, 200, members=0, member=None)], Spec(), State()
        )
        assert decision.partitions == {KEY: PartitionState.STOPPED}
