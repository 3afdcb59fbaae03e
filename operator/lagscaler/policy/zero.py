"""To zero, when nothing is to be done, and back."""

from __future__ import annotations

from collections.abc import Sequence

from lagscaler.policy import demand, outage, words
from lagscaler.policy.assignment import Groups, sticky
from lagscaler.policy.model import Reason, Spec, State
from lagscaler.policy.picture import Picture
from lagscaler.policy.wish import Wish


def is_idle(picture: Picture) -> bool:
    """Return whether nothing is left, nothing has come since the sample before, and nobody may be at work."""
    return _is_quiet(picture) and not picture.doubtful


def doubt(picture: Picture, spec: Spec) -> str:
    """Return what alone speaks against being idle; empty when it is not asked for, or something else does too."""
    if not spec.to_zero or not picture.doubtful or not _is_quiet(picture):
        return ""
    return f"not to zero, because what is left in {words.partitions(picture.doubtful)} may be a record at work"


def _is_quiet(picture: Picture) -> bool:
    now = picture.now
    if not now.complete or now.rebalancing or len(picture.samples) < 2 or any(picture.lags):
        return False
    before = picture.samples[-2]
    for key, partition in now.partitions.items():
        old = before.partitions.get(key)
        if old is None or old.end != partition.end:
            return False
        if partition.member is not None and partition.busy is not None and partition.busy > 0:
            return False
    return True


def leave(picture: Picture, spec: Spec, state: State) -> Wish | None:
    """Return the wish for no replica at all, when it is time for it."""
    if not spec.to_zero or state.idle_since is None:
        return None
    idle = picture.now.at - state.idle_since
    if idle < spec.idle_after:
        return None
    sentence = f"Nothing has come and nothing is left for {words.seconds(idle)}: {picture.now.replicas} → 0"
    return Wish(0, Reason.IDLE, sentence, 0)


def come_back(picture: Picture, spec: Spec, state: State) -> Wish:
    """Return the wish at zero replicas."""
    least = max(1, spec.min_replicas)
    if not spec.to_zero:
        sentence = f"No replica is there, and at least {words.replicas(least)} should be: 0 → {least}"
        return Wish(least, Reason.BOUNDS, sentence)
    lag = sum(picture.lags)
    if lag > spec.activation_lag:
        wanted = max(least, _enough(picture, spec))
        sentence = f"{words.records(lag)} waiting at zero, more than {spec.activation_lag:g}: 0 → {wanted}"
        return Wish(wanted, Reason.ACTIVATED, sentence, wanted)
    if not picture.now.complete:
        if spec.fallback_replicas and (fallback := outage.fallback(picture, spec, state)) is not None:
            return fallback
        return Wish(
            0, Reason.INCOMPLETE, "At zero, and nothing is known to wait: " + "; ".join(picture.now.gaps.values())
        )
    waiting = f"{words.records(lag)} waiting, not more than {spec.activation_lag:g}" if lag else "nothing is waiting"
    return Wish(0, Reason.IDLE, f"At zero: {waiting}", 0)


def _enough(picture: Picture, spec: Spec) -> int:
    """Return how many replicas do what is waiting within the planned share of the objective; 1 when it is not known."""
    if picture.capacity is None or not picture.keys:
        return 1
    planned = spec.slack * spec.latency
    required = [
        max(rate / spec.utilization, left / planned) for rate, left in zip(picture.rates, picture.lags, strict=True)
    ]

    def predict(replicas: int) -> Sequence[Groups]:
        return [sticky([], replicas, len(required))]

    return demand.sufficient(required, picture.capacity, predict, picture.hot())
