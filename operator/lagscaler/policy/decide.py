"""
How many replicas a consumer should have: the one decision of the operator.

In this order: to zero and back; more replicas; what an incomplete sample allows; fewer replicas; and the bounds last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lagscaler.policy import changes, effect, endings, increase, outage, reduction, regret, trial, words, zero
from lagscaler.policy.capacity import HOLE, SPAN
from lagscaler.policy.forecast import Forecast, look_ahead
from lagscaler.policy.lag import baselines, lost_commits
from lagscaler.policy.model import Decision, PartitionState, Reason, Sample, Spec, State
from lagscaler.policy.picture import Picture, draw
from lagscaler.policy.wish import Wish


def decide(history: Sequence[Sample], spec: Spec, state: State) -> Decision:
    """
    Return how many replicas there should be after the last sample of `history`, which is now.

    Nothing but the arguments counts, so the same ones give the same answer. Raises ValueError when there is no sample.
    """
    if not history:
        raise ValueError("There is no sample to decide on: take one first.")
    now = history[-1]
    state = changes.observe(state, now, spec)
    state = replace(
        state,
        baselines=baselines(now, spec.offset_reset, state.baselines),
        lost_commits=lost_commits(history, state.lost_commits),
    )
    state = endings.remember(history, spec, state)
    picture = draw(history, spec, state)
    forecast = look_ahead(picture, picture.capacity, spec, state) if picture.capacity and picture.keys else None
    state = _remember(state, picture, forecast, spec)
    wish = _bounded(_wish(picture, forecast, spec, state), picture, spec)
    if wish.replicas > now.replicas:
        state = changes.ask(effect.adding(state, picture), wish.replicas, now.at)
        if wish.reason is Reason.BEHIND:
            state = regret.adding(state, now.at, picture.arrival, now.replicas, spec)
    elif wish.reason is Reason.SURPLUS:
        state = regret.reducing(state, now.at, picture.arrival)
    return Decision(
        replicas=wish.replicas,
        reason=wish.reason,
        sentence=wish.sentence + ".",
        state=state,
        lag=sum(picture.lags),
        behind=picture.behind,
        wait=forecast.wait if forecast else None,
        arrival_rate=picture.arrival if len(picture.samples) > 1 else None,
        capacity=picture.capacity,
        needed=wish.needed,
        partitions=picture.states,
    )


def _remember(state: State, picture: Picture, forecast: Forecast | None, spec: Spec) -> State:
    """Return the state after what was worked out, before anything is wished for."""
    now = picture.now
    planned = spec.slack * spec.latency
    over = forecast is not None and forecast.over
    breaches = min(increase.LOOKS, state.breaches + over)
    state = replace(state, capacity=picture.learned)
    found = {key: now.partitions[key].end for key in picture.named(PartitionState.PHANTOM)}
    found = {**endings.not_passed(now, state), **found}
    if not now.complete:
        unseen = {key: end for key, end in state.phantoms.items() if key not in now.partitions}
        state = replace(state, phantoms=unseen | found, idle_since=None, breaches=breaches)
    else:
        wait = forecast.wait if forecast is not None else max(picture.ages, default=0.0)
        quiet = not over and wait <= planned / 2 and state.asked_at is None
        quiet = quiet and max(picture.ages, default=0.0) <= planned and not _after_a_hole(picture, spec)
        state = replace(
            state,
            phantoms=found,
            breaches=breaches if over else 0,
            quiet_since=(now.at if state.quiet_since is None else state.quiet_since) if quiet else None,
            idle_since=(now.at if state.idle_since is None else state.idle_since) if zero.is_idle(picture) else None,
        )
    return effect.judge(state, picture, behind=over)


def _after_a_hole(picture: Picture, spec: Spec) -> bool:
    """Return whether nobody saw what came before this sample, other than as a mean that hides a burst."""
    if len(picture.samples) < 2:
        return False
    return picture.now.at - picture.samples[-2].at > max(SPAN, HOLE * spec.poll)


def _wish(picture: Picture, forecast: Forecast | None, spec: Spec, state: State) -> Wish:
    present = picture.now.replicas
    if present <= 0:
        return zero.come_back(picture, spec, state)
    behind = None
    if forecast is not None and len(picture.samples) > 1:  # after a restart, one look tells too little
        behind = increase.more(picture, forecast, spec, state, _most(picture, spec))
    if not picture.now.complete:
        return _incomplete(picture, behind, spec, state)
    if behind is not None:
        return behind
    leave = zero.leave(picture, spec, state)
    if leave is not None:
        return leave
    floor = max(1, spec.min_replicas)
    if forecast is None:
        wish = trial.fewer(picture, spec, state, floor)
    else:
        wish = reduction.fewer(picture, forecast, spec, state, floor)
    helpless = picture.named(PartitionState.STALLED, PartitionState.STOPPED)
    if helpless and wish.replicas == present:
        sentence = f"{words.partitions(helpless)} make no progress, which more replicas cannot change: "
        sentence += words.stay(present)
        return Wish(present, Reason.STALLED, sentence, wish.needed)
    doubt = zero.doubt(picture, spec)
    if doubt and wish.replicas == present:
        return replace(wish, sentence=f"{wish.sentence}; {doubt}")
    return wish


def _incomplete(picture: Picture, behind: Wish | None, spec: Spec, state: State) -> Wish:
    """Return the wish after a sample that does not tell everything: nothing is taken away."""
    now = picture.now
    if behind is not None and behind.replicas > now.replicas:
        return behind
    if (fallback := outage.fallback(picture, spec, state)) is not None:
        return fallback
    return Wish(now.replicas, Reason.INCOMPLETE, f"{outage.gaps(picture)}: {words.stay(now.replicas)}")


def _most(picture: Picture, spec: Spec) -> int:
    """Return the highest number of replicas that is allowed: no more than there are partitions, one at least."""
    seen = picture.samples[-1:] if picture.now.complete else picture.samples
    partitions = max(len(sample.partitions) for sample in seen)
    most = partitions or picture.now.replicas
    if spec.max_replicas is not None:
        most = min(most, spec.max_replicas)
    return max(1, most)


def _bounded(wish: Wish, picture: Picture, spec: Spec) -> Wish:
    """Return the wish within the bounds; an incomplete sample takes nothing away even so."""
    present = picture.now.replicas
    if wish.replicas == 0 and spec.to_zero:
        return wish
    most = _most(picture, spec)
    if wish.reason is Reason.FALLBACK and not any(sample.complete for sample in picture.samples):
        # How many partitions there are is not known either.
        most = wish.replicas if spec.max_replicas is None else min(wish.replicas, spec.max_replicas)
    least = min(max(1, spec.min_replicas), most)
    bounded = min(max(wish.replicas, least), most)
    if not picture.now.complete:
        bounded = max(bounded, present)
    if bounded == wish.replicas:
        return wish
    if wish.replicas != present:
        return replace(wish, replicas=bounded, sentence=f"{wish.sentence} (bounds: {bounded})")
    sentence = f"Between {least} and {most} replicas are allowed: {present} → {bounded}"
    return replace(wish, replicas=bounded, reason=Reason.BOUNDS, sentence=sentence)
