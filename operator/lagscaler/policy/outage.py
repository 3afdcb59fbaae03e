"""When Kafka cannot be asked."""

from __future__ import annotations

from lagscaler.policy import words
from lagscaler.policy.model import Reason, Spec, State
from lagscaler.policy.picture import Picture
from lagscaler.policy.wish import Wish


def fallback(picture: Picture, spec: Spec, state: State) -> Wish | None:
    """Return the wish after a time without a complete sample; None as long as it is not too long."""
    now = picture.now
    unseen = now.at - state.last_complete if state.last_complete is not None else 0.0
    if unseen < spec.fallback_after:
        return None
    wanted = max(now.replicas, spec.fallback_replicas or 0)
    sentence = f"Nothing complete was seen for {words.seconds(unseen)} ({gaps(picture)}): "
    sentence += f"{now.replicas} → {wanted}" if wanted > now.replicas else words.stay(now.replicas)
    return Wish(wanted, Reason.FALLBACK, sentence)


def gaps(picture: Picture) -> str:
    """Return what is missing in the last sample, in words."""
    return "; ".join(picture.now.gaps.values()).rstrip(".")
