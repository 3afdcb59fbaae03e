"""
More replicas: late, and then enough at once.

Nothing is added for a backlog that those who are there will do in time. Where they will not, two looks in a row must
say so, unless the second would be too late. The jump is sized so that one is enough, because each costs a rebalance.
"""

from __future__ import annotations

from lagscaler.policy import changes, effect, words
from lagscaler.policy.forecast import Forecast
from lagscaler.policy.model import PartitionState, Reason, Spec, State
from lagscaler.policy.picture import Picture
from lagscaler.policy.wish import Wish

LOOKS = 2
"""Decisions in a row that must find the predicted wait too long."""


def more(picture: Picture, forecast: Forecast, spec: Spec, state: State, most: int) -> Wish | None:
    """
    Return the wish for more replicas, or why there are none although the consumer is behind; None when it is not.

    `most` is what the bounds allow, for which reason alone a wish may be useless.
    """
    present = picture.now.replicas
    needed = forecast.needed
    said = f"Worst replica {words.seconds(forecast.late)} behind by the time that help comes"
    said += f" at {words.rate(picture.capacity or 0.0)}, objective {words.seconds(spec.latency)}"
    if not forecast.over:
        if max(picture.ages) > spec.latency:
            sentence = f"{words.seconds(max(picture.ages))} behind, and {words.replicas(present)} will catch up in time"
            return Wish(present, Reason.CATCHING_UP, sentence, needed)
        return None
    if effect.exhausted(state):
        sentence = f"{said}, but more replicas brought nothing twice: {words.stay(present)}"
        return Wish(present, Reason.INEFFECTIVE, sentence, needed)
    if needed <= present:
        hot = picture.named(PartitionState.HOT)
        if hot:
            sentence = f"{said}: {words.partitions(hot)} fill a replica each, and more cannot share them"
            return Wish(present, Reason.HOT, sentence, needed)
        return Wish(present, Reason.CATCHING_UP, f"{said}: {words.replicas(present)} will do", needed)
    if present >= most:
        limit = "maxReplicas or the partitions allow no more"
        return Wish(present, Reason.LIMITED, f"{said}: {needed} would be needed, {limit}", needed)
    if effect.pending(state, picture):
        return Wish(present, Reason.CATCHING_UP, f"{said}: first, what the last addition brings", needed)
    if state.breaches < LOOKS and not forecast.urgent:
        return Wish(present, Reason.CATCHING_UP, f"{said}: one more look before any are added", needed)
    missed = max(picture.ages) > spec.latency or forecast.wait > spec.latency
    if changes.budget_left(state, spec) < 1 and not missed:
        sentence = f"{said}: {needed} would do, but the hour's {spec.rebalances_per_hour} changes are used up"
        return Wish(present, Reason.BUDGET, sentence, needed)
    wanted = effect.modest(state, present, min(needed, most))
    return Wish(wanted, Reason.BEHIND, f"{said}: {present} → {wanted}", needed)
