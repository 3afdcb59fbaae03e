"""The memory that supervisor and executor share."""

from __future__ import annotations

from taskbridge.worker.batching import MOST
from taskbridge.worker.slots import ATTENTION, DONE, EMPTY, RUNNING, SIZE, SLOTS, WITHDRAWN, SlotTable


def test_both_sides_see_the_same_record_through_its_life() -> None:
    memory = bytearray(SIZE)
    executor, supervisor = SlotTable(memory), SlotTable(memory)
    assert (supervisor.state(SLOTS - 1), supervisor.times(SLOTS - 1)) == (EMPTY, (0.0, 0.0))
    executor.start(SLOTS - 1, 12.5)
    assert (supervisor.state(SLOTS - 1), supervisor.times(SLOTS - 1)) == (RUNNING, (12.5, 0.0))
    executor.end(SLOTS - 1, 12.5, 13.5, DONE + 2)
    assert (supervisor.state(SLOTS - 1), supervisor.times(SLOTS - 1)) == (DONE + 2, (12.5, 13.5))
    supervisor.clear(SLOTS - 1)
    assert executor.state(SLOTS - 1) == EMPTY
    supervisor.withdraw(SLOTS - 1)
    assert executor.state(SLOTS - 1) == WITHDRAWN


def test_slots_and_deadlines_do_not_touch_each_other() -> None:
    memory = bytearray(SIZE)
    table = SlotTable(memory)
    table.set_deadlines(1.5, 2.5)
    for slot in range(SLOTS):
        table.end(slot, float(slot), slot + 0.5, ATTENTION)
    assert table.deadlines() == (1.5, 2.5)
    table.set_deadlines(0.0, 0.0)
    assert table.times(0) == (0.0, 0.5)
    assert [table.times(slot) for slot in (0, 1, SLOTS - 1)] == [(0.0, 0.5), (1.0, 1.5), (SLOTS - 1.0, SLOTS - 0.5)]
    assert table.deadlines() == (0.0, 0.0)


def test_both_sides_see_how_long_was_worked() -> None:
    memory = bytearray(SIZE)
    executor, supervisor = SlotTable(memory), SlotTable(memory)
    assert supervisor.worked(100.0) == 0.0
    executor.begin_work(100.0)
    assert supervisor.worked(102.5) == 2.5, "what is going on counts"
    executor.end_work(103.0)
    assert supervisor.worked(110.0) == 3.0, "rest does not"
    executor.set_deadlines(1.5, 2.5)
    executor.end(0, 1.0, 2.0, DONE)
    executor.begin_work(110.0)
    assert supervisor.worked(111.0) == 4.0
    assert executor.deadlines() == (1.5, 2.5)


def test_a_slot_is_not_reused_while_an_executor_may_hold_its_record() -> None:
    # An executor holds two batches at most.
    assert 2 * MOST < SLOTS
