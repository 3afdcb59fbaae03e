"""
Fewer replicas while it is not known what one can do.

Of a consumer that does not say how busy it is, the capacity shows only when it is short. So, as long as nothing waits,
a few replicas at a time are taken away on trial; what is then short is learned, and corrected, within the objective.
"""

from __future__ import annotations

from lagscaler.policy import words
from lagscaler.policy.capacity import SPAN
from lagscaler.policy.changes import budget_left, start_delay
from lagscaler.policy.forecast import LATE, pause
from lagscaler.policy.model import Reason, Spec, State
from lagscaler.policy.picture import Picture
from lagscaler.policy.reduction import CHANGES, time_left
from lagscaler.policy.wish import Wish

STEP = 0.2
"""Share of the replicas that is taken away at a time."""


def fewer(picture: Picture, spec: Spec, state: State, floor: int) -> Wish:
    """Return the wish for fewer replicas on trial, not below `floor`, or why there are none."""
    present = picture.now.replicas
    unknown = "What one replica can do is not known yet"
    late = max(picture.ages, default=0.0)
    if late > spec.latency:
        sentence = f"{words.seconds(late)} behind, and what one replica can do is not known, so none can be added"
        return Wish(present, Reason.LEARNING, f"{sentence}: set capacity.perReplica")
    wanted = max(floor, present - max(1, int(present * STEP)))
    if wanted >= present:
        return Wish(present, Reason.LEARNING, f"{unknown}: {words.stay(present)}")
    missed = (1 - wanted / present) * (start_delay(state) + SPAN + 2 * spec.poll) + 2 * pause(spec)
    if missed > LATE * spec.latency:
        sentence = f"{unknown}, and to try fewer than {words.replicas(present)} could miss the objective"
        return Wish(present, Reason.LEARNING, sentence)
    left = time_left(picture, spec, state)
    if state.last_down is not None:
        left = max(left, spec.scale_down_after - (picture.now.at - state.last_down))
    if left > 0 or budget_left(state, spec) < CHANGES:
        known = left > 0 and state.quiet_since is not None
        sentence = f"{unknown}: {words.stay(present)}" + (f" for {words.seconds(left)}" if known else "")
        return Wish(present, Reason.LEARNING, sentence)
    return Wish(wanted, Reason.SURPLUS, f"{unknown}, and nothing waits: {present} → {wanted} on trial")
