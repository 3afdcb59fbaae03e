"""The states of an order."""

from itertools import pairwise

import pytest

from shop.orders.states import CLOSED, MOVES, PROGRESS, IllegalMoveError, OrderClosedError, State, check_move, passed


def test_every_state_has_its_moves():
    assert set(MOVES) == set(State)


def test_an_order_goes_through_all_of_progress_one_step_at_a_time():
    for state, following in pairwise(PROGRESS):
        check_move(state, following)
        for skipped in PROGRESS[PROGRESS.index(following) + 1 :]:
            with pytest.raises(IllegalMoveError):
                check_move(state, skipped)


@pytest.mark.parametrize("closed", sorted(CLOSED))
@pytest.mark.parametrize("step", PROGRESS[1:])
def test_a_closed_order_does_not_go_on(closed, step):
    with pytest.raises(OrderClosedError, match=f"The order is {closed}"):
        check_move(closed, step)


@pytest.mark.parametrize("closed", sorted(CLOSED))
def test_a_closed_order_stays_as_it_was_closed(closed):
    assert MOVES[closed] == frozenset()


def test_a_confirmed_order_can_only_be_cancelled():
    assert MOVES[State.CONFIRMED] == {State.CANCELLED}


def test_a_paid_order_does_not_expire():
    with pytest.raises(IllegalMoveError, match="An order that is authorized cannot become expired"):
        check_move(State.AUTHORIZED, State.EXPIRED)


@pytest.mark.parametrize(
    ("state", "target", "expected"),
    [
        (State.CLEARED, State.RESERVED, True),
        (State.CLEARED, State.CLEARED, True),
        (State.RESERVED, State.CLEARED, False),
        (State.CANCELLED, State.PLACED, False),
        (State.CONFIRMED, State.CANCELLED, False),
    ],
)
def test_what_an_order_has_passed(state, target, expected):
    assert passed(state, target) is expected
