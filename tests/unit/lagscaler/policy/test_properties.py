"""What is true of every decision."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from lagscaler.policy.decide import decide
from lagscaler.policy.history import History
from lagscaler.policy.model import Decision, Gap, PartitionSample, Sample, Spec, State
from tests.unit.lagscaler.policy.scenes import NOW, Group, Loop, keys

QUICK = settings(max_examples=60, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])

offsets = st.one_of(st.integers(0, 50), st.integers(0, 100_000))
anything = st.builds(
    PartitionSample,
    start=offsets,
    end=offsets,
    committed=st.one_of(st.none(), offsets),
    beyond=st.one_of(st.just(0), offsets),
    busy=st.one_of(st.none(), st.floats(0, 1)),
    member=st.one_of(st.none(), st.sampled_from("abc")),
    first_unread_at=st.one_of(st.none(), st.floats(NOW - 1000, NOW + 1000)),
)
any_sample = st.builds(
    Sample,
    at=st.floats(NOW, NOW + 600),
    partitions=st.dictionaries(st.sampled_from([*keys(4), ("mail", 0)]), anything, max_size=5),
    replicas=st.integers(0, 9),
    ready=st.integers(0, 9),
    members=st.one_of(st.none(), st.integers(0, 9)),
    rebalancing=st.booleans(),
    gaps=st.one_of(st.just({}), st.just({Gap.NO_LEADER: "orders-1 has no leader"})),
)
any_spec = st.builds(
    Spec,
    latency=st.sampled_from([1.0, 60.0, 3600.0]),
    min_replicas=st.integers(0, 4),
    max_replicas=st.one_of(st.none(), st.integers(1, 6)),
    poll=st.sampled_from([1.0, 10.0]),
    capacity=st.one_of(st.none(), st.floats(0.1, 100)),
    window=st.sampled_from([60.0, 600.0]),
    rebalances_per_hour=st.integers(0, 3),
    scale_down_after=st.sampled_from([1.0, 100.0]),
    cooldown=st.sampled_from([1.0, 100.0]),
    to_zero=st.booleans(),
    idle_after=st.sampled_from([1.0, 100.0]),
    stall_after=st.sampled_from([1.0, 100.0]),
    fallback_after=st.sampled_from([1.0, 100.0]),
    fallback_replicas=st.one_of(st.none(), st.integers(0, 9)),
    offset_reset=st.sampled_from(["earliest", "latest", "none"]),
    read_committed=st.booleans(),
)


times = st.one_of(st.none(), st.floats(NOW - 4000, NOW + 600))
numbers = st.one_of(st.none(), st.integers(0, 9))
amounts = st.one_of(st.none(), st.just(0.0), st.floats(0.001, 1000))
ends = st.dictionaries(st.sampled_from(keys(4)), offsets, max_size=4)
any_state = st.builds(
    State,
    capacity=amounts,
    start_delay=amounts,
    last_up=times,
    last_down=times,
    changes=st.lists(st.floats(NOW - 4000, NOW + 600), max_size=4).map(tuple),
    breaches=st.integers(0, 9),
    ineffective=st.integers(0, 3),
    rate_before=amounts,
    last_complete=times,
    idle_since=times,
    baselines=ends,
    phantoms=ends,
    awaited=ends,
    markers=ends,
    replicas=numbers,
    asked_at=times,
    asked_for=numbers,
    quiet_since=times,
    reduced_at=times,
    reduced_rate=amounts,
    memory=amounts,
    strained=amounts,
    learned_at=times,
    replicas_before=numbers,
    arrival_before=amounts,
    rate_judged=amounts,
    lost_commits=st.dictionaries(st.sampled_from(keys(4)), st.floats(NOW - 4000, NOW + 600), max_size=4),
)
"""What a status may hold, whoever wrote it."""


def run(samples: list[Sample], spec: Spec, state: State) -> list[Decision]:
    """Decide on every prefix, as a controller would that acts on nothing."""
    decisions = []
    for count in range(1, len(samples) + 1):
        decisions.append(decide(samples[:count], spec, state))
        state = decisions[-1].state
    return decisions


@QUICK
@given(st.lists(any_sample, min_size=1, max_size=8), any_spec, any_state)
def test_any_history_gets_an_answer_within_the_bounds(samples, spec, state):
    """Whatever Kafka is made to say: offsets that go back, samples of the same time or of none, no partitions."""
    for sample, decision in zip(samples, run(samples, spec, state), strict=True):
        assert decision.lag >= 0
        assert decision.behind >= 0
        assert decision.wait is None or 0 <= decision.wait < float("inf")
        assert decision.capacity is None or 0 < decision.capacity < float("inf")
        assert decision.sentence.endswith(".")
        if not sample.gaps and sample.partitions:
            assert decision.replicas <= len(sample.partitions)
            assert spec.max_replicas is None or decision.replicas <= spec.max_replicas
            assert decision.replicas >= (0 if spec.to_zero else 1)
        if sample.gaps:
            assert decision.replicas >= sample.replicas


@QUICK
@given(st.lists(any_sample, min_size=1, max_size=8), any_spec, any_state)
def test_the_same_is_decided_again(samples, spec, state):
    assert run(samples, spec, state) == run(samples, spec, state)


@QUICK
@given(
    replicas=st.integers(1, 10),
    rate=st.floats(0, 1500),
    later=st.floats(0, 1500),
    busy=st.booleans(),
    missing=st.sets(st.integers(0, 11), max_size=11),
    seconds=st.sampled_from([10, 100, 400]),
)
def test_an_incomplete_sample_takes_nothing_away(replicas, rate, later, busy, missing, seconds):
    loop = Loop(
        Group(replicas=replicas, busy=busy), Spec(scale_down_after=60, cooldown=10, to_zero=True, idle_after=60)
    )
    loop.acting = False
    loop.run(rate, 300)
    loop.run(later, seconds)
    loop.group.run(later)
    sample = loop.group.sample()
    known = {key: one for key, one in sample.partitions.items() if key[1] not in missing}
    decision = loop.judge(replace(sample, partitions=known, gaps={Gap.DENIED_TOPIC: "Describe on orders is denied"}))
    assert decision.replicas >= replicas


def with_lag(samples: list[Sample], more: list[float]) -> list[Sample]:
    """Return the same history with so many records more to do in each partition, since ever."""
    return [
        replace(
            sample,
            partitions={
                key: replace(partition, start=partition.start - 1e6, committed=partition.committed - more[key[1]])
                for key, partition in sample.partitions.items()
            },
        )
        for sample in samples
    ]


@QUICK
@given(
    replicas=st.integers(1, 10),
    rate=st.floats(50, 1500),
    seconds=st.sampled_from([20, 60, 200, 600]),
    less=st.lists(st.floats(0, 5000), min_size=12, max_size=12),
    more=st.lists(st.floats(0, 5000), min_size=12, max_size=12),
    breaches=st.integers(0, 2),
)
def test_more_lag_never_means_fewer_replicas(replicas, rate, seconds, less, more, breaches):
    """All else equal: what arrives, what is done, what one replica can do, and what was decided before."""
    spec = Spec(capacity=100.0, scale_down_after=60, cooldown=10)
    group = Group(replicas=replicas)
    samples = []
    for _ in range(seconds // 10):
        group.run(rate)
        samples.append(group.sample())
    state = State(breaches=breaches, quiet_since=NOW, capacity=100.0)
    fewer = decide(with_lag(samples, less), spec, state)
    both = [one + two for one, two in zip(less, more, strict=True)]
    assert decide(with_lag(samples, both), spec, state).replicas >= fewer.replicas


HOUR = 3600.0
WEIGHTS = [1 + 0.4 * (number % 3) for number in range(12)]
SETTLED = settings(max_examples=6, derandomize=True, deadline=None)
constant = {
    "busy": st.booleans(), "replicas": st.integers(1, 12), "rate": st.floats(1, 900), "capacity": st.floats(20, 200),
    "start": st.sampled_from([0.0, 20.0, 60.0]), "pause": st.sampled_from([0.0, 3.0, 8.0]),
}  # fmt: skip


def settled(group: Group, rate: float) -> tuple[list[Decision], int]:
    """Return the decisions of two hours under a constant load, after an hour and a half of it, and what it ended at."""
    loop = Loop(group)
    loop.run(rate, 1.5 * HOUR)
    before = group.replicas
    decisions = loop.run(rate, 2 * HOUR)
    if max(group.weights) / sum(group.weights) * rate < 0.9 * group.capacity:
        assert max(decision.behind for decision in decisions) < loop.spec.latency
    return decisions, before


@SETTLED
@given(**constant)
def test_a_constant_load_is_settled_for(rate, **values):
    """It ends at one number, at which nothing waits that need not, and stays there."""
    decisions, before = settled(Group(**values), rate)
    assert {decision.replicas for decision in decisions} == {before}


@SETTLED
@given(**constant)
@example(busy=True, replicas=4, rate=893, capacity=182, start=60, pause=3)
@example(busy=True, replicas=7, rate=294, capacity=55, start=0, pause=3)
def test_uneven_partitions_are_settled_for_or_fewer_replicas_are_tried_again(rate, **values):
    """
    It stays at one number, unless fewer replicas should do and do not, by how the partitions happen to be shared out.

    Where that shows within an hour, as few are not tried again for another.
    """
    group = Group(weights=WEIGHTS, **values)
    began = group.at + 1.5 * HOUR
    decisions, before = settled(group, rate)
    changes = [
        (began + number * group.poll, old, new)
        for number, (old, new) in enumerate(pairwise([before, *(decision.replicas for decision in decisions)]))
        if old != new
    ]
    for (down, old, few), (up, _, new) in pairwise(changes):
        if few < old and few < new:
            again = [at for at, before, after in changes if at > down and after <= few and after < before]
            assert up - down > HOUR or all(at - up >= HOUR for at in again)
    assert max(len(decision.state.changes) for decision in decisions) <= Spec().rebalances_per_hour


@settings(max_examples=10, derandomize=True, deadline=None)
@given(rate=st.floats(50, 900), at=st.integers(1, 60), later=st.floats(1, 900))
def test_a_restart_takes_nothing_away_at_once(rate, at, later):
    """A new process knows the state and no history: it may add what is missing, and must look before it reduces."""
    loop = Loop(Group(replicas=6))
    loop.run(rate, at * 10)
    before = loop.group.replicas
    loop.restart()
    assert min(decision.replicas for decision in loop.run(later, 90)) >= before


def test_a_thinned_history_decides_alike():
    """At a poll period of a second the ring drops most samples; what is decided is the same within a replica."""
    spec = Spec(poll=1.0)
    thin, full = Loop(Group(replicas=4, poll=1.0), spec), Loop(Group(replicas=4, poll=1.0), spec)
    everything: list[Sample] = []
    state = State()
    for rate, seconds in ((300, 400), (900, 300), (200, 900)):
        for _ in range(seconds):
            thin.step(rate)
            full.group.run(rate)
            everything.append(full.group.sample())
            decision = decide(everything[-700:], spec, state)
            state, full.group.replicas = decision.state, decision.replicas
        assert abs(thin.group.replicas - full.group.replicas) <= 1
    assert len(History(spec.window, everything)) < 130
