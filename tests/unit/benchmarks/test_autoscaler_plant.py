"""The simulated group obeys what no real one can break."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.autoscaling.group import reassign, share
from benchmarks.autoscaling.load import Epoch, Load
from benchmarks.autoscaling.plant import Consumers, Plant, Site
from benchmarks.autoscaling.traces import FOREIGN, KINDS, WORKER

SITE = Site(partitions=6, capacity=10.0, latency=30.0, start=10.0, pause=4, spread=0, noise=0)
EVEN = (1 / 6,) * 6


def plant(rates: list[float], consumers: Consumers = WORKER, replicas: int = 1, site: Site = SITE) -> Plant:
    return Plant(site, consumers, Load(rates, [Epoch(0, EVEN)]), "seed", replicas, looks=1)


def run(one: Plant, seconds: int) -> Plant:
    for _ in range(seconds):
        one.tick()
    return one


def consumed(one: Plant) -> float:
    one._settle()
    return sum(one._consumed)


members = st.lists(st.integers(0, 30), unique=True, max_size=12)


@settings(deadline=None)
@given(st.integers(1, 40), members, members, st.integers(0, 5))
def test_assignments_are_balanced_and_sticky(partitions: int, before: list[int], after: list[int], seed: int) -> None:
    chance = Random(seed)
    first = reassign([None] * partitions, before, chance)
    second = reassign(first, after, chance)
    if not after:
        assert second == [None] * partitions
        return
    counts = Counter(dict.fromkeys(after, 0))
    counts.update(owner for owner in second if owner is not None)
    assert set(counts) == set(after)
    assert sum(counts.values()) == partitions
    assert max(counts.values()) - min(counts.values()) <= 1
    # What moves is what members that have gone held, and what newcomers take: nothing is swapped.
    held = Counter(first)
    most = -(-partitions // len(after))
    overfull = sum(max(0, held[member] - most) for member in after)
    free = sum(number for owner, number in held.items() if owner not in after)
    newcomers = sum(counts[member] for member in after if not held[member])
    moved = sum(one != other for one, other in zip(first, second, strict=True))
    assert moved <= max(free + overfull, newcomers) + len(after)


def test_nothing_moves_when_nobody_comes_or_goes() -> None:
    first = reassign([None] * 10, [1, 2, 3], Random(1))
    assert reassign(first, [3, 1, 2], Random(2)) == first


@settings(deadline=None)
@given(st.lists(st.floats(0, 100), min_size=1, max_size=8), st.floats(0, 300))
def test_a_member_does_no_more_than_it_can_nor_than_there_is(backlogs: list[float], capacity: float) -> None:
    done = share(backlogs, capacity)
    assert sum(done) == pytest.approx(min(capacity, sum(backlogs)))
    assert all(one <= backlog for one, backlog in zip(done, backlogs, strict=True))
    # Nobody waits while another gets more of the same member's time.
    unfinished = [one for one, backlog in zip(done, backlogs, strict=True) if one < backlog - 1e-9]
    assert not unfinished or min(unfinished) >= max(done) - 1e-6


@pytest.mark.parametrize("consumers", KINDS, ids=lambda kind: kind.name)
@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 50))
def test_what_is_consumed_was_written_and_could_be_done(consumers: Consumers, seed: int) -> None:
    chance = Random(seed)
    rates = [chance.uniform(0, 60) for _ in range(200)]
    one = plant(rates, consumers, replicas=2)
    done, started = 0.0, 2
    for second in range(200):
        ready = one.ready
        one.tick()
        now = consumed(one)
        ends = one.load.total[second + 1]
        assert now <= ends + 1e-6
        assert now - done <= 10.0 * min(max(ready, one.ready), 6) + 1e-6
        assert all(
            committed <= position + 1e-6 for committed, position in zip(one.committed, one._consumed, strict=True)
        )
        done = now
        if chance.random() < 0.05:
            started = chance.randint(1, 8)
            one.scale(started)
        assert one.replicas == started


def test_a_group_that_can_keep_up_has_no_lag() -> None:
    one = run(plant([15.0] * 100, replicas=2), 100)
    assert consumed(one) == pytest.approx(1500)
    assert one.score.violated == 0
    assert one.score.replica_seconds == 200


def test_a_group_that_cannot_falls_behind_and_violates_the_objective() -> None:
    one = run(plant([20.0] * 100), 100)
    assert consumed(one) == pytest.approx(1000)
    # After t seconds the oldest record is t/2 old: older than 30 seconds from second 60 on.
    assert one.score.violated == pytest.approx(40, abs=1)


def test_a_new_pod_takes_its_time_and_a_rebalance() -> None:
    one = plant([0.0] * 100)
    one.scale(2)
    joined = next(second for second in range(100) if (one.tick() or one.rebalancing))
    assert 8 <= joined <= 13
    assert len(set(one.owners)) == 2
    assert None in one.owners
    owned = next(second for second in range(100) if (one.tick() or not one.rebalancing))
    assert owned == SITE.pause - 1
    assert Counter(one.owners).most_common() in ([(0, 3), (1, 3)], [(1, 3), (0, 3)])
    assert one.score.rebalances == 1


@pytest.mark.parametrize(("consumers", "lost"), [(FOREIGN, 4 * 30), (WORKER, 0)], ids=["eager", "cooperative"])
def test_an_eager_rebalance_stops_everybody(consumers: Consumers, lost: float) -> None:
    one = plant([60.0] * 60, consumers, replicas=3)
    run(one, 5)
    before = consumed(one)
    one.scale(4)
    assert run(one, 20).score.rebalances == 1
    joined = next(pod.joins for pod in one._pods[3:])
    after = (25 - joined - SITE.pause) * 10.0
    assert consumed(one) - before == pytest.approx(20 * 30 - lost + after)


def test_who_comes_during_a_rebalance_waits_for_the_next() -> None:
    one = plant([0.0] * 60)
    one.scale(2)
    while not one.rebalancing:
        one.tick()
    one._add(one.now + 1)
    run(one, 4 * SITE.pause)
    assert one.score.rebalances == 2
    assert Counter(one.owners) == {0: 2, 1: 2, 2: 2}


def test_the_youngest_pods_go_first_and_commit_what_they_did() -> None:
    one = run(plant([12.0] * 30, replicas=2), 10)
    one.scale(1)
    assert sum(one.committed) == pytest.approx(60 + 60 - WORKER.transit * 6)
    assert {owner for owner in one.owners if owner is not None} == {0}
    run(one, SITE.pause + 1)
    assert set(one.owners) == {0}


def test_more_pods_than_partitions_are_idle() -> None:
    one = run(plant([100.0] * 50, replicas=9), 50)
    assert consumed(one) == pytest.approx(50 * 60)


@pytest.mark.parametrize("consumers", KINDS, ids=lambda kind: kind.name)
def test_commits_come_at_each_partitions_own_time(consumers: Consumers) -> None:
    one = run(plant([6.0] * 60, consumers), 60)
    behind = [60 - round(committed) for committed in one.committed]
    assert set(behind) <= set(range(consumers.commit))
    if consumers.commit > 1:
        assert len(set(behind)) > 1


def test_only_some_consumers_say_how_busy_they_are() -> None:
    assert run(plant([6.0] * 60, WORKER), 60).busy == [0.6] * 6
    assert run(plant([6.0] * 60, FOREIGN), 60).busy == [None] * 6


def test_looking_less_often_changes_nothing_that_is_seen() -> None:
    rates = [Random(3).uniform(0, 30) for _ in range(90)]
    load = Load(rates, [Epoch(0, EVEN)])
    for consumers in KINDS:
        seen = [run(Plant(SITE, consumers, load, "seed", 2, looks), 90) for looks in (1, 15, 30)]
        assert seen[0].committed == seen[1].committed == seen[2].committed
        assert seen[0].busy == seen[1].busy == seen[2].busy


def test_a_partition_may_have_more_from_some_second_on() -> None:
    load = Load([10.0] * 20, [Epoch(0, (0.5, 0.5)), Epoch(10, (0.9, 0.1))])
    assert [load.bases[1][0], load.bases[1][1]] == [50.0, 50.0]
    one = run(Plant(replace(SITE, partitions=2), WORKER, load, "seed", 2, looks=1), 20)
    assert one.ends() == [140, 60]
    assert consumed(one) == pytest.approx(200)


def test_a_load_begins_with_its_first_epoch() -> None:
    with pytest.raises(ValueError, match="begins"):
        Load([1.0], [Epoch(3, (1.0,))])
