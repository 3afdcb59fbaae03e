"""The states of an order and the moves between them."""

from enum import StrEnum


class State(StrEnum):
    """Where an order stands; the first six are passed in this order."""

    PLACED = "placed"
    VALIDATED = "validated"
    RESERVED = "reserved"
    CLEARED = "cleared"
    AUTHORIZED = "authorized"
    CONFIRMED = "confirmed"
    REJECTED = "rejected"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


PROGRESS = (State.PLACED, State.VALIDATED, State.RESERVED, State.CLEARED, State.AUTHORIZED, State.CONFIRMED)
UNPAID = (State.PLACED, State.VALIDATED, State.RESERVED, State.CLEARED)
CLOSED = frozenset({State.REJECTED, State.CANCELLED, State.EXPIRED})

MOVES: dict[State, frozenset[State]] = {
    State.PLACED: frozenset({State.VALIDATED, *CLOSED}),
    State.VALIDATED: frozenset({State.RESERVED, *CLOSED}),
    State.RESERVED: frozenset({State.CLEARED, *CLOSED}),
    State.CLEARED: frozenset({State.AUTHORIZED, *CLOSED}),
    State.AUTHORIZED: frozenset({State.CONFIRMED, State.REJECTED, State.CANCELLED}),
    State.CONFIRMED: frozenset({State.CANCELLED}),
    State.REJECTED: frozenset(),
    State.CANCELLED: frozenset(),
    State.EXPIRED: frozenset(),
}


class IllegalMoveError(Exception):
    """An order was asked to make a move that its state does not allow."""


class OrderClosedError(Exception):
    """An order was cancelled, rejected or expired while work on it was under way."""


def passed(state: str, target: State) -> bool:
    """Tell whether an order in `state` has already reached `target` on the way to confirmation."""
    return state in PROGRESS and target in PROGRESS and PROGRESS.index(State(state)) >= PROGRESS.index(target)


def check_move(state: str, target: State) -> None:
    """
    Return if an order may move from `state` to `target`.

    Raise OrderClosedError where a closed order was to go on, IllegalMoveError for every other
    move that is not in the table.
    """
    if target in MOVES[State(state)]:
        return
    if state in CLOSED and target in PROGRESS:
        raise OrderClosedError(f"The order is {state} and does not go on to {target.value}.")
    raise IllegalMoveError(f"An order that is {state} cannot become {target.value}.")
