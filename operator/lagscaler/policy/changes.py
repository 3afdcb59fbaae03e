"""What the policy remembers of changes of replicas: who made them does not matter, every one costs a rebalance."""

from __future__ import annotations

from dataclasses import replace

from lagscaler.policy import regret
from lagscaler.policy.model import Sample, Spec, State

HOUR = 3600.0
START_DELAY = 30.0
"""Seconds from asking for a replica to its owning partitions, until it was seen."""
START_DELAY_MOST = 600.0
"""A start that takes longer is a pod that cannot start, of which nothing is learned."""
GIVEN_UP = 60.0
"""Seconds after which a request that nobody acted on (a dry run) is forgotten."""


def observe(state: State, now: Sample, spec: Spec) -> State:
    """Return the state after what the sample shows: changes of replicas, and replicas that own partitions at last."""
    state = _changed(state, now)
    state = replace(
        state,
        changes=tuple(at for at in state.changes if now.at - HOUR < at <= now.at),
        replicas=now.replicas,
        last_complete=now.at if now.complete or state.last_complete is None else state.last_complete,
    )
    return _started(regret.forget(state, now.at), now, spec)


def ask(state: State, replicas: int, at: float) -> State:
    """Return the state after more replicas were asked for; until those own partitions, further ones are not timed."""
    if state.asked_for is not None:
        return state
    return replace(state, asked_at=at, asked_for=replicas)


def start_delay(state: State) -> float:
    """Return the seconds from asking for a replica to its owning partitions, as far as known."""
    return state.start_delay if state.start_delay is not None else START_DELAY


def budget_left(state: State, spec: Spec) -> int:
    """Return how many more changes this hour may see."""
    return max(0, spec.rebalances_per_hour - len(state.changes))


def _changed(state: State, now: Sample) -> State:
    """Return the state after a change of replicas since the last sample, if there was one."""
    before = state.replicas
    if before is None or now.replicas == before:
        return state
    state = replace(state, changes=(*state.changes, now.at))
    if now.replicas < before:
        return replace(state, last_down=now.at)
    return replace(state, last_up=now.at, quiet_since=None)


def _started(state: State, now: Sample, spec: Spec) -> State:
    """Return the state with the start's delay learned, once all that were asked for own partitions."""
    if state.asked_at is None or state.asked_for is None:
        return state
    waited = now.at - state.asked_at
    if now.replicas < state.asked_for:
        given_up = waited > max(GIVEN_UP, 3 * spec.poll)
        return replace(state, asked_at=None, asked_for=None) if given_up else state
    there = now.members or now.ready  # consumers that assign partitions to themselves are no members
    if there < state.asked_for or now.rebalancing or not now.complete:
        return replace(state, asked_at=None, asked_for=None) if waited > START_DELAY_MOST else state
    delay = max(0.0, waited - spec.poll / 2)
    known = state.start_delay
    return replace(
        state, asked_at=None, asked_for=None, start_delay=delay if known is None else known + 0.5 * (delay - known)
    )
