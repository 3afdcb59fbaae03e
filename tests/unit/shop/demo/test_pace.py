"""Actions are performed at a steady rate."""

from itertools import repeat

import pytest

from shop.demo.actions import Restock
from shop.demo.pace import run

ACTION = Restock("P00001", 1)


class Clock:
    """A clock that only moves when somebody sleeps or works."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        assert seconds > 0
        self.now += seconds


class Door:
    """Takes its time over every action, and can be interrupted."""

    def __init__(self, clock, seconds, interrupt_at=None):
        self.clock, self.seconds, self.interrupt_at = clock, seconds, interrupt_at
        self.performed = []

    def perform(self, action):
        if len(self.performed) == self.interrupt_at:
            raise KeyboardInterrupt
        self.clock.now += self.seconds
        self.performed.append(action)
        return "done"


def perform(seconds_each, rate=10, seconds=2, interrupt_at=None):
    clock = Clock()
    door = Door(clock, seconds_each, interrupt_at)
    return run(repeat(ACTION), door, rate, seconds, clock=clock, sleep=clock.sleep)


def test_a_quick_shop_is_visited_at_the_rate():
    summary = perform(seconds_each=0.01)
    assert summary.performed == summary.planned == 20
    assert summary.kept_up
    assert summary.achieved == pytest.approx(20 / 1.91)


def test_a_slow_shop_gets_every_action_and_the_summary_says_that_it_was_late():
    summary = perform(seconds_each=0.2)
    assert summary.performed == 20
    assert not summary.kept_up
    assert summary.most_behind == pytest.approx(1.9)
    assert summary.achieved == pytest.approx(5)


def test_an_interruption_ends_it_with_the_summary_so_far():
    summary = perform(seconds_each=0.01, interrupt_at=3)
    assert summary.interrupted
    assert summary.performed == 3
    assert summary.outcomes == {"Restock done": 3}
