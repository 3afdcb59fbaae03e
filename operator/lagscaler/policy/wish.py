"""What one part of the policy would do, before the bounds."""

from __future__ import annotations

from dataclasses import dataclass

from lagscaler.policy.model import Reason


@dataclass(frozen=True, slots=True)
class Wish:
    """How many replicas there should be, and why."""

    replicas: int
    reason: Reason
    sentence: str
    needed: int | None = None
    """Replicas that would do; None: unknown."""
