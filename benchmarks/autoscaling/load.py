"""A load: how many records come in every second, and onto which partitions they fall."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise


@dataclass(frozen=True, slots=True)
class Epoch:
    """From one second on, which share of the records falls onto each partition."""

    start: int
    weights: tuple[float, ...]
    """One for each partition; their sum is 1."""


class Load:
    """What was written until when, for the whole topic and for each partition."""

    def __init__(self, rates: Sequence[float], epochs: Sequence[Epoch]) -> None:
        """Take the records of each second, and the epochs in order, the first from second 0 on."""
        if not epochs or epochs[0].start != 0:
            raise ValueError("the first epoch of a load begins with it")
        self.rates = tuple(rates)
        self.total = (0.0, *accumulate(rates))
        """`total[t]`: records written before second `t`."""
        self.epochs = tuple(epochs)
        self._starts = [epoch.start for epoch in epochs]
        self.bases = [tuple(0.0 for _ in epochs[0].weights)]
        """For each epoch, what stood in each partition when it began."""
        for before, after in pairwise(epochs):
            more = self.total[after.start] - self.total[before.start]
            self.bases.append(
                tuple(base + weight * more for base, weight in zip(self.bases[-1], before.weights, strict=True))
            )

    @property
    def seconds(self) -> int:
        """How long it lasts."""
        return len(self.rates)

    @property
    def partitions(self) -> int:
        """How many there are."""
        return len(self.epochs[0].weights)

    def epoch_at(self, second: int) -> int:
        """Return the number of the epoch that the records before `second` end in."""
        return max(bisect_right(self._starts, second - 1) - 1, 0)

    def line(self, second: int) -> tuple[tuple[float, ...], tuple[float, ...], float]:
        """Return bases, weights and x: before `second`, `bases[p] + weights[p] * x` records came to partition p."""
        number = self.epoch_at(second)
        epoch = self.epochs[number]
        return self.bases[number], epoch.weights, self.total[second] - self.total[epoch.start]
