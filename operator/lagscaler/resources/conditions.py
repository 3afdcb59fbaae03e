"""Conditions of a status, as Kubernetes has them: a change of `status` is what moves the time of one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from lagscaler.resources.reading import time_text

Truth = Literal["True", "False", "Unknown"]


@dataclass(frozen=True, slots=True)
class Condition:
    """One of them, without its time."""

    type: str
    status: Truth
    reason: str
    message: str


def truth(value: bool | None) -> Truth:
    """Return how a condition writes yes, no and not known."""
    return "Unknown" if value is None else "True" if value else "False"


def written(
    conditions: Iterable[Condition], before: Iterable[Mapping[str, Any]], generation: int, now: float
) -> list[dict[str, Any]]:
    """Return conditions as the API server keeps them; one whose status stays keeps its time."""
    known = {str(one.get("type")): one for one in before}
    found = []
    for condition in conditions:
        old = known.get(condition.type, {})
        since = old.get("lastTransitionTime") if old.get("status") == condition.status else None
        found.append(
            {
                "type": condition.type,
                "status": condition.status,
                "reason": condition.reason,
                "message": condition.message,
                "lastTransitionTime": since or time_text(now),
                "observedGeneration": generation,
            }
        )
    return found


def condition_of(status: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return one condition of a status; an empty mapping when it has none of that type."""
    for one in status.get("conditions") or ():
        if one.get("type") == name:
            found: Mapping[str, Any] = one
            return found
    return {}
