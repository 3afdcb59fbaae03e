"""The shapes of loads: records a second as a function of the second, before noise."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from random import Random

Shape = Callable[[int], float]


def steps(*levels: tuple[int, float]) -> Shape:
    """From each second on its rate: (second, rate), the first at 0."""

    def rate(second: int) -> float:
        return next(level for start, level in reversed(levels) if start <= second)

    return rate


def wave(middle: float, swing: float, period: int, phase: float = 0.0) -> Shape:
    """Up and down around `middle`, as a day does; `phase` is a share of the period."""
    return lambda second: middle + swing * math.sin(2 * math.pi * (second / period + phase))


def bursts(quiet: float, busy: float, every: int, length: int, first: int = 0) -> Shape:
    """`busy` for `length` seconds in every `every`, from second `first` on, and else `quiet`."""
    return lambda second: busy if second >= first and (second - first) % every < length else quiet


def ramps(low: float, high: float, period: int) -> Shape:
    """From low to high in a line, then all at once to low again."""
    return lambda second: low + (high - low) * (second % period) / period


def line(*points: tuple[int, float]) -> Shape:
    """Straight lines between (second, rate), and level behind the last."""

    def rate(second: int) -> float:
        for (start, low), (end, high) in pairwise(points):
            if start <= second < end:
                return low + (high - low) * (second - start) / (end - start)
        return points[-1][1]

    return rate


def walk(seconds: int, start: float, step: float, low: float, high: float, chance: Random) -> Shape:
    """A random walk: `step` is the standard deviation of a second's change; kept between low and high."""
    levels = [start]
    for _ in range(seconds - 1):
        levels.append(min(high, max(low, levels[-1] + chance.gauss(0, step))))
    return levels.__getitem__


def noisy(shape: Shape, seconds: int, noise: float, chance: Random) -> list[float]:
    """Return each second's records: the shape, times one plus Gaussian noise, never below nothing."""
    return [max(0.0, shape(second) * (1 + chance.gauss(0, noise))) for second in range(seconds)]


def uneven(partitions: int, exponent: float, chance: Random) -> tuple[float, ...]:
    """Return Zipf's weights, shuffled over the partitions; an exponent of 0 makes them even."""
    weights = [(rank + 1) ** -exponent for rank in range(partitions)]
    chance.shuffle(weights)
    return scaled(weights)


def scattered(partitions: int, low: float, high: float, chance: Random) -> tuple[float, ...]:
    """Return weights as many keys give them that are hashed onto few partitions: not quite even."""
    return scaled([chance.uniform(low, high) for _ in range(partitions)])


def scaled(weights: Sequence[float]) -> tuple[float, ...]:
    """Return the weights over their sum."""
    total = sum(weights)
    return tuple(weight / total for weight in weights)
