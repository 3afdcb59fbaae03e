"""
Whether replicas that were added brought anything.

A database behind the consumers, or a lock, can be what is slow. When twice in a row an addition brings less than a
tenth of what it should (as `scaling.effectiveness` of Flink's autoscaler), none are added until something changes.
"""

from __future__ import annotations

import math
from dataclasses import replace

from lagscaler.policy.changes import start_delay
from lagscaler.policy.model import State
from lagscaler.policy.picture import Picture

LEAST = 0.1
"""Share of the expected gain that an addition must bring."""
TIMES = 2
"""Additions in a row that brought less, after which none are made."""
CHANGED = 0.25
"""Share by which the group's rate must have changed since for another attempt."""
RETRY = 1800.0
"""Seconds since the last addition after which another attempt is made in any case."""
GROWN = 1.1
"""Factor by which the load must have grown for another addition before the last one was judged."""
PATIENCE = 120.0
"""Seconds after an addition within which it is judged, or not waited for."""
ATTEMPT = 1.5
"""Factor by which the replicas may grow after an addition that brought little."""
OBSERVED = 20.0
"""Seconds without any reassignment over which the rate is judged."""


def judge(state: State, picture: Picture, behind: bool) -> State:
    """Return the state after judging the last addition, if it can be judged by now; `behind`: there is enough to do."""
    if state.ineffective >= TIMES and _something_changed(state, picture, behind):
        state = replace(state, ineffective=0, rate_judged=None)
    if state.rate_before is None or state.replicas_before is None:
        return state
    added = min(picture.now.replicas, picture.owners) - state.replicas_before
    if not behind:
        return replace(state, rate_before=None, replicas_before=None, ineffective=0)
    if added <= 0 and not _waiting(state, picture):
        return replace(state, rate_before=None, replicas_before=None)
    steady = picture.steady_for >= OBSERVED and picture.owners >= min(picture.now.replicas, len(picture.keys))
    if picture.done is None or picture.capacity is None or not steady or _waiting(state, picture):
        return state
    gained = picture.done - state.rate_before
    brought_little = gained < LEAST * added * picture.capacity
    return replace(
        state,
        rate_before=None,
        replicas_before=None,
        ineffective=state.ineffective + 1 if brought_little else 0,
        rate_judged=picture.done if brought_little else None,
    )


def adding(state: State, picture: Picture) -> State:
    """Return the state that remembers what is to be compared with, as replicas are added."""
    if state.rate_before is not None or picture.done is None:
        return state
    return replace(
        state, rate_before=picture.done, replicas_before=picture.now.replicas, arrival_before=picture.arrival
    )


def pending(state: State, picture: Picture) -> bool:
    """Return whether the last addition is there, will soon be judged, and the load is what it was meant for."""
    if state.rate_before is None or state.arrival_before is None or state.asked_at is not None:
        return False
    grown = picture.arrival > GROWN * state.arrival_before
    return not grown and state.last_up is not None and picture.now.at - state.last_up < PATIENCE


def modest(state: State, present: int, needed: int) -> int:
    """Return how many replicas there may be after an addition: not many more when the one before brought little."""
    return needed if state.ineffective == 0 else min(needed, math.ceil(present * ATTEMPT))


def exhausted(state: State) -> bool:
    """Return whether adding replicas has been given up."""
    return state.ineffective >= TIMES


def _waiting(state: State, picture: Picture) -> bool:
    """Return whether the replicas that were asked for may still be starting."""
    return state.asked_at is not None and picture.now.at - state.asked_at <= 2 * start_delay(state) + OBSERVED


def _something_changed(state: State, picture: Picture, behind: bool) -> bool:
    if not behind:
        return True
    if state.last_up is not None and picture.now.at - state.last_up > RETRY:
        return True
    before, now = state.rate_judged, picture.done
    return before is not None and now is not None and abs(now - before) > CHANGED * max(before, 1e-9)
