"""
Fewer replicas, when they would have done.

What came during the last minutes is replayed with fewer replicas: they must have kept every wait within the share of
the objective that is planned with, so a burst that the objective can absorb keeps no replica. Reductions that had to be
undone teach how far back to look.
"""

from __future__ import annotations

import math

from lagscaler.policy import demand, words
from lagscaler.policy.changes import budget_left
from lagscaler.policy.forecast import Forecast, pause, trend
from lagscaler.policy.model import Reason, Spec, State
from lagscaler.policy.picture import Picture
from lagscaler.policy.rates import ago, arrived, increments
from lagscaler.policy.regret import bearable, memory
from lagscaler.policy.wish import Wish

AHEAD = 180.0
"""Seconds for which fewer replicas should do when the load grows as it has."""
MEAN = 120.0
"""Seconds over which the steady load is measured."""
SAVING = 0.1
"""Share of the replicas that must be saved, so that a rebalance is worth it."""
CHANGES = 2
"""Changes of the hour's budget that must be left: the reduction itself, and its undoing."""


def fewer(picture: Picture, forecast: Forecast, spec: Spec, state: State, floor: int) -> Wish:
    """Return the wish for fewer replicas, not below `floor`, or why there are none."""
    now = picture.now
    present = now.replicas
    growth = trend(picture, AHEAD)
    mean = [
        growth * max(rate, lately)
        for rate, lately in zip(arrived(now, ago(picture.samples, MEAN), picture.keys), picture.arrivals, strict=True)
    ]
    said = f"{words.rate(sum(mean))} arriving, {words.rate(picture.capacity or 0.0)} per replica"
    least = max(
        floor, _least(sum(min(rate, picture.capacity or rate) for rate in mean), picture.capacity or 1.0, spec, state)
    )
    most = present - max(1, math.ceil(present * SAVING))
    if most < least:
        return Wish(present, Reason.STEADY, f"{said}: the objective is met by {words.replicas(present)}", present)
    back = words.seconds(memory(state, spec))
    left = time_left(picture, spec, state)
    if left > 0:
        sentence = f"{said}: {least} may do, to be seen when it has been quiet for {words.seconds(left)} more"
        return Wish(present, Reason.COOLING_DOWN, sentence, least)
    wanted = _fewest(picture, forecast, mean, spec, state, least, most)
    if wanted >= present:
        sentence = f"{said}: fewer than {words.replicas(present)} would not have absorbed the last {back}"
        return Wish(present, Reason.STEADY, sentence, present)
    if budget_left(state, spec) < CHANGES:
        sentence = f"{said}: {wanted} would do, but the hour's {spec.rebalances_per_hour} changes are used up"
        return Wish(present, Reason.BUDGET, sentence, wanted)
    sentence = f"{said}: {wanted} would have absorbed the last {back}: {present} → {wanted}"
    return Wish(wanted, Reason.SURPLUS, sentence, wanted)


def _least(total: float, capacity: float, spec: Spec, state: State) -> int:
    """Return the number of replicas below which the steady load would not be met, however it is spread."""
    most = capacity * spec.utilization * (1 + demand.UNMET)
    tried = bearable(state)
    return max(1, math.ceil(total / (most if tried is None else min(most, tried)) - 1e-9))


def time_left(picture: Picture, spec: Spec, state: State) -> float:
    """
    Return for how many seconds nothing may be taken away yet.

    Waits must have been short for the cooldown, and enough must have been seen: that nothing has come for longer which
    fewer replicas would not have absorbed, is asked afterwards.
    """
    at = picture.now.at
    changed = max((change for change in (state.last_up, state.last_down) if change is not None), default=None)
    cooling = spec.cooldown - (at - changed) if changed is not None else 0.0
    pause = min(spec.cooldown, spec.scale_down_after)
    quiet = pause - (at - state.quiet_since) if state.quiet_since is not None else pause
    seen = 0.9 * min(spec.scale_down_after, spec.window) - (at - picture.samples[0].at)
    return max(quiet, cooling, seen)


def _fewest(
    picture: Picture, forecast: Forecast, mean: list[float], spec: Spec, state: State, least: int, most: int
) -> int:
    """Return the smallest number, from `most` down to `least`, that would have done; the present one if none would."""
    capacity = picture.capacity or 1.0
    begin = picture.now.at - memory(state, spec) - spec.latency
    rows = increments([sample for sample in picture.samples if sample.at >= begin], picture.keys)
    limit = spec.slack * spec.latency
    steady = [rate / spec.utilization for rate in mean]
    best = picture.now.replicas
    stop = pause(spec)
    for replicas in range(min(most, len(picture.keys)), least - 1, -1):
        if stop + sum(mean) * stop / (replicas * capacity) > limit:
            break
        likely = forecast.predict(replicas)
        if not all(demand.suffices(steady, groups, capacity, picture.hot()) for groups in likely):
            break
        if any(demand.replayed(rows, groups, capacity, limit) > limit for groups in likely):
            break
        best = replicas
    return best
