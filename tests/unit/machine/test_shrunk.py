"""Cases that the machines found, or that were found while they were made: each as short as it can be told."""

from __future__ import annotations

import pytest

from taskbridge.cutover import BASIS_POINTS, Stage
from tests.unit.machine.world import DELAYED, World


@pytest.fixture
def world() -> World:
    return at(World(), Stage.LIVE, BASIS_POINTS)


def at(world: World, stage: Stage, points: int = 0) -> World:
    """Return the world once its service has been in a stage for longer than any flag is believed."""
    for passed in (Stage.MIRROR, stage):
        assert world.move(passed, points if passed is stage else 0)
        world.sleep(11.0)
        world.run_relay()
    return world


def test_a_resend_to_celery_whose_end_nobody_knows_is_repeated_at_celery_only(world: World) -> None:
    # Kafka refuses what a barrier sent, Celery's broker takes it and goes away before it says so.
    [web, _] = world.webs
    world.open_barrier(web)
    call = world.dispatch(web, mode="barrier")
    world.faults.append("both brokers")
    world.kafka.weather.append("refuses")
    world.celery.weather.append("doubts")
    world.close_barrier(web)
    [row] = world.database.rows["outbox"].values()
    assert (row.only, row.pending.attempts) == ("celery", 1)
    world.close()
    assert (call.state, call.starts, call.sides) == ("acknowledged", 2, {"celery"})


def test_a_relay_that_dies_with_a_record_on_its_way_leaves_an_explanation(world: World) -> None:
    call = world.dispatch(mode="outbox")
    # One step to look at the flags, one to claim, two to note, one to hand over: then it is gone.
    world.run_relay(fuse=6)
    world.run_workers()
    assert (call.starts, world.journal.attempts(call)) == (1, 0)
    assert len(world.database.notes) == 1
    world.run_relay()
    world.run_workers()
    assert (call.starts, world.journal.attempts(call)) == (2, 1)
    world.close()


def test_a_transaction_that_is_rolled_back_sends_nothing_though_the_flag_has_moved_meanwhile(world: World) -> None:
    [web, other] = world.webs
    world.begin(web)
    call = world.dispatch(web, mode="outbox")
    assert world.move(action="kill")
    world.dispatch(other, mode="outbox")
    world.end(web, commit=False)
    world.close()
    assert (call.state, call.starts) == ("undone", 0)


def test_a_delayed_message_goes_where_the_flag_says_when_it_is_due(world: World) -> None:
    call = world.dispatch(delay=DELAYED)
    assert world.move(action="kill")
    world.sleep(DELAYED)
    world.run_relay()
    world.close()
    assert (call.starts, call.sides) == (1, {"celery"})


def test_a_kill_reaches_a_process_within_a_second_and_not_one_that_cannot_read(world: World) -> None:
    [web, other] = world.webs
    assert [world.dispatch(one).state for one in (web, other)] == ["acknowledged"] * 2
    assert world.move(action="kill")
    world.sleep(1.0)
    read = world.dispatch(web)
    world.database.switch(False)
    world.faults.append("database")
    blind = world.dispatch(other)
    world.sleep(11.0)
    floor = world.dispatch(other)
    world.close()
    assert [call.sides for call in (read, blind, floor)] == [{"celery"}, {"kafka"}, {"celery"}]


def test_what_runs_once_survives_the_death_of_its_worker_in_the_middle(world: World) -> None:
    call = world.dispatch(once=True)
    for worker in world.group.members:
        worker.fetch()
        worker.start(0)
    assert (call.starts, call.effects) == (1, 0)
    [holder] = [worker for worker in world.group.members if worker.executors[0].run]
    world.faults.append("worker")
    world.group.leave(holder, gently=False)
    world.run_workers()
    assert (call.starts, call.effects) == (2, 1)
    world.close()


def test_a_process_at_its_floor_may_pass_a_fence() -> None:
    # Known, and why an ordered service wants its database: without it, no process can tell whose turn it is.
    world = at(World(ordered=True), Stage.LIVE, BASIS_POINTS)
    first = world.dispatch(key="k0")
    assert world.move(action="kill")
    second = world.dispatch(key="k0")
    assert [row.pending.road for row in world.database.rows["outbox"].values()] == ["held"]
    world.database.switch(False)
    world.faults.append("database")
    world.sleep(11.0)
    third = world.dispatch(key="k0")
    world.close()
    assert [call.placeless for call in (first, second, third)] == [False, False, True]
    assert world.journal.first["k0"] == [first.number, third.number, second.number]


def test_keys_that_change_side_wait_for_what_a_dead_relay_had_in_hands() -> None:
    # Found by the machine: held back as if nobody had it, the first one was repeated beside the ones after it.
    world = at(World(ordered=True), Stage.LIVE, BASIS_POINTS)
    assert world.move(action="kill")
    calls = [world.dispatch(key="k0")]
    assert world.move(Stage.MIRROR)
    world.sleep(11.0)
    for _ in range(2):
        world.lift()
    assert world.move(Stage.LIVE, BASIS_POINTS)
    world.lift()
    assert [row.pending.road for row in world.database.rows["outbox"].values()] == ["any"]
    world.run_relay(fuse=2)
    assert len(world.database.notes) == 1
    assert world.move(action="kill")
    [row] = world.database.rows["outbox"].values()
    assert (row.pending.road, row.pending.attempts) == ("kafka-again", 1)
    calls += [world.dispatch(key="k0") for _ in range(2)]
    world.close()
    assert world.journal.first["k0"] == [call.number for call in calls]
