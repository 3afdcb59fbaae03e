"""
What is learned from a reduction that had to be undone.

If it was undone because the load came back, it should have been looked further back: far enough to bridge such a pause,
where that is not longer than what is kept. If the load was the same, so much of it on one replica was too much, and is
not tried again for an hour.
"""

from __future__ import annotations

from dataclasses import replace

from lagscaler.policy.model import Spec, State

FORGOTTEN = 3600.0
"""Seconds for which it is remembered."""
SAME = 1.15
"""The load is the same up to this factor."""
RELIEF = 0.93
"""Share of the load on one replica that proved too much which is tried next."""
BRIDGE = 1.1
"""Factor by which the next pause may be longer."""


def memory(state: State, spec: Spec) -> float:
    """Return how many seconds back fewer replicas must have sufficed: from `scale_down_after` to `window`."""
    least = min(spec.scale_down_after, spec.window)
    return min(max(least, state.memory or 0.0), spec.window)


def bearable(state: State) -> float | None:
    """Return the records a second that one replica may get on average, going by experience; None when there is none."""
    return state.strained * RELIEF if state.strained else None


def forget(state: State, at: float) -> State:
    """Return the state without what is too long ago."""
    if state.learned_at is not None and at - state.learned_at > FORGOTTEN:
        state = replace(state, memory=None, strained=None, learned_at=None)
    if state.reduced_at is not None and at - (state.last_down or state.reduced_at) > FORGOTTEN:
        state = replace(state, reduced_at=None, reduced_rate=None)
    return state


def reducing(state: State, at: float, rate: float) -> State:
    """Return the state as replicas are taken away while `rate` records a second arrive."""
    return replace(state, reduced_at=at if state.reduced_at is None else state.reduced_at, reduced_rate=rate)


def adding(state: State, at: float, rate: float, replicas: int, spec: Spec) -> State:
    """
    Return the state as replicas are added because those that are there do not suffice, while `rate` records a second
    arrive. What is added for another reason says nothing about the reduction.
    """
    if state.reduced_at is None or state.reduced_rate is None:
        return state
    pause = at - state.reduced_at + memory(state, spec)
    if 0 < rate <= SAME * state.reduced_rate:
        state = replace(state, strained=rate / max(1, replicas), learned_at=at)
    elif pause <= spec.window:
        state = replace(state, memory=min(spec.window, BRIDGE * pause), learned_at=at)
    return replace(state, reduced_at=None, reduced_rate=None)
