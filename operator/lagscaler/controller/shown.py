"""When a status is written: at once where something happened, otherwise seldom enough for the API server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FIGURES_EVERY = 8.0
"""Seconds between two writes that only bring figures up to date, for one resource: each poll of ten seconds has one."""

APART = 0.03
"""Seconds between two such writes of different resources: a thousand of them make about thirty writes a second."""


def urgent(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Return whether something happened, other than that figures changed."""
    return _events(before) != _events(after)


def _events(status: Mapping[str, Any]) -> dict[str, Any]:
    partitions = status.get("partitions") or {}
    names = ("observedGeneration", "reason", "desiredReplicas", "replicas", "readyReplicas", "stage", "lastScale")
    return {
        **{name: status.get(name) for name in names},
        "stalled": partitions.get("stalled"),
        "hot": partitions.get("hot"),
        "conditions": [
            (one.get("type"), one.get("status"), one.get("reason")) for one in status.get("conditions") or ()
        ],
    }
