"""
What a number of replicas would make of what is there and of what comes.

All of it is fluid: records flow at a rate, a replica does `capacity` records a second, and the partitions of one
replica share it. A predicted wait is the backlog of the worst replica divided by its capacity.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence, Set

from lagscaler.policy.assignment import Groups

UNMET = 0.02
"""Share of the capacity by which demand may exceed it, so that no replica is added for a trifle."""
STEPS = 64
"""Numbers of replicas that are tried, at most; beyond as many partitions, not every number is."""


def longest_wait(backlog: Sequence[float], groups: Groups, capacity: float) -> float:
    """Return the seconds that the worst replica needs for its backlog."""
    return max((sum(backlog[index] for index in group) for group in groups), default=0.0) / capacity


def after(
    backlog: Sequence[float], rates: Sequence[float], groups: Groups, capacity: float, seconds: float
) -> list[float]:
    """Return each partition's backlog `seconds` later, when every replica does what it can."""
    result = [0.0] * len(backlog)
    for group in groups:
        expected = [backlog[index] + rates[index] * seconds for index in group]
        total = sum(expected)
        left = total - capacity * seconds
        if left > 0:
            for index, records in zip(group, expected, strict=True):
                result[index] = records * left / total
    return result


def suffices(demand: Sequence[float], groups: Groups, capacity: float, hot: Set[int] = frozenset()) -> bool:
    """
    Return whether the replicas meet the demand, in records a second of each partition.

    Partitions that are `hot`, more than any replica can do, ask for a whole one. What shares a replica with them counts
    as unmet, and that may be a trifle of what all replicas can do: to free them, each would need a replica of its own.
    """
    crowded = 0.0
    for group in groups:
        load = sum(capacity if index in hot else demand[index] for index in group)
        if load <= capacity * (1 + UNMET):
            continue
        if len(group) == 1:
            continue
        if hot.isdisjoint(group):
            return False
        crowded += load - capacity
    return crowded <= UNMET * capacity * len(groups)


def sufficient(
    demand: Sequence[float], capacity: float, predict: Callable[[int], Sequence[Groups]], hot: Set[int] = frozenset()
) -> int:
    """
    Return the smallest number of replicas that meets the demand, at least one, at most one per partition.

    `predict` gives the assignments that are likely for a number; all of them must do.
    """
    partitions = len(demand)
    total = sum(min(capacity, rate) for rate in demand)
    least = max(1, math.ceil(total / capacity / (1 + UNMET) - 1e-9))
    for replicas in range(least, partitions, max(1, partitions // STEPS)):
        if all(suffices(demand, groups, capacity, hot) for groups in predict(replicas)):
            return replicas
    return max(1, partitions)


def replayed(rows: Sequence[tuple[float, Sequence[float]]], groups: Groups, capacity: float, limit: float) -> float:
    """
    Return the longest wait if those replicas had served what came, beginning without a backlog.

    Stops at the first one over `limit`, seconds. Rows hold the seconds of a step and what came to each partition.
    """
    longest = 0.0
    most = limit * capacity
    for group in groups:
        backlog = 0.0
        for seconds, gained in rows:
            backlog += sum([gained[index] for index in group]) - capacity * seconds
            if backlog < 0:
                backlog = 0.0
            elif backlog > longest:
                longest = backlog
                if longest > most:
                    return longest / capacity
    return longest / capacity
