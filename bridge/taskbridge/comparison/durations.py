"""How long things took: quantiles per task and side."""

from __future__ import annotations

from array import array
from math import ceil
from typing import TypedDict

PRECISION = 6
"""Digits after the point: microseconds, which is more than clocks of different machines agree on."""


class Quantiles(TypedDict):
    """Seconds."""

    n: int
    p50: float
    p95: float
    p99: float
    max: float


def quantiles(seconds: array[float]) -> Quantiles | None:
    """Return the nearest-rank quantiles (each a duration that really occurred), or None when there are none."""
    if not seconds:
        return None
    ordered = sorted(seconds)

    def rank(share: float) -> float:
        return round(ordered[ceil(share * len(ordered)) - 1], PRECISION)

    return Quantiles(n=len(ordered), p50=rank(0.50), p95=rank(0.95), p99=rank(0.99), max=round(ordered[-1], PRECISION))
