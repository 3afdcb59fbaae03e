"""What a reduction that had to be undone teaches."""

from __future__ import annotations

import pytest

from lagscaler.policy import regret
from lagscaler.policy.model import Spec, State
from tests.unit.lagscaler.policy.scenes import NOW

SPEC = Spec(scale_down_after=120, window=600)


def undone(after, before, now):
    """Return the state when `now` a second arrive, so long after a reduction at which it was `before`."""
    state = regret.reducing(State(last_down=NOW), NOW, before)
    return regret.adding(state, NOW + after, now, 4, SPEC)


def test_a_load_that_came_back_is_remembered_for():
    state = undone(200, before=100, now=900)
    assert regret.memory(state, SPEC) == pytest.approx(1.1 * (200 + 120))
    assert regret.bearable(state) is None


def test_a_pause_too_long_to_be_bridged_is_not():
    assert regret.memory(undone(590, before=100, now=900), SPEC) == 120


def test_never_further_back_than_samples_are_kept():
    assert regret.memory(undone(470, before=100, now=900), SPEC) == 600


def test_the_same_load_was_too_much_for_one_replica():
    state = undone(200, before=380, now=400)
    assert regret.bearable(state) == pytest.approx(93)
    assert regret.memory(state, SPEC) == 120


def test_nothing_was_not_too_much():
    """A backlog can be the reason to add some while nothing arrives."""
    assert regret.bearable(undone(200, before=380, now=0)) is None


def test_a_state_of_before_that_says_nothing_was_too_much():
    assert regret.bearable(State(strained=0.0)) is None


def test_an_addition_without_a_reduction_teaches_nothing():
    assert regret.adding(State(), NOW, 400, 4, SPEC) == State()


def test_the_first_of_several_reductions_counts():
    state = regret.reducing(State(last_down=NOW), NOW, 300)
    state = regret.reducing(state, NOW + 70, 100)
    assert (state.reduced_at, state.reduced_rate) == (NOW, 100)


class TestForgetting:
    def test_after_an_hour(self):
        state = undone(200, before=100, now=900)
        assert regret.forget(state, NOW + 200 + 3600) == state
        assert regret.memory(regret.forget(state, NOW + 200 + 3601), SPEC) == 120

    def test_a_reduction_that_lasted(self):
        state = regret.reducing(State(last_down=NOW), NOW, 300)
        assert regret.forget(state, NOW + 3600) == state
        assert regret.forget(state, NOW + 3601).reduced_at is None
