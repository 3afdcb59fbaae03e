"""
KEDA's Kafka scaler and the HorizontalPodAutoscaler behind it, as their sources have them.

Scaler: `getTotalLag` in kedacore/keda, pkg/scalers/kafka_scaler.go: whole numbers, integer division. Autoscaler:
`GetExternalPerPodMetricReplicas` in kubernetes/kubernetes, pkg/controller/podautoscaler/replica_calculator.go, and
`normalizeDesiredReplicasWithBehaviors` in horizontal.go beside it, with the default behaviour of autoscaling/v2. The
autoscaler reads the metric through KEDA's metrics server, which asks Kafka at that moment.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

TOLERANCE = 0.1
"""Deviation from the target, as a share of it, that the autoscaler leaves alone."""

PERIOD = 15
"""Seconds between two looks of the autoscaler."""

UP_PODS = 4
UP_PERCENT = 100
"""Most that is added in `PERIOD` seconds, whichever allows more."""

MAX_REPLICAS = 100
"""KEDA's own `maxReplicaCount`."""


@dataclass(frozen=True, slots=True)
class KafkaScaler:
    """A trigger of type `kafka`, with those of its options that bear upon how much lag it reports."""

    threshold: int
    """`lagThreshold`: records for each replica."""
    lagging_only: bool = False
    """`limitToPartitionsWithLag`"""
    even: bool = False
    """`ensureEvenDistributionOfPartitions`"""

    def metric(self, lags: Sequence[int]) -> int:
        """Return the lag that is reported for one topic."""
        total = sum(lags)
        bound = len(lags)
        if self.even:
            total = self.threshold * next(
                (count for count in divisors(len(lags)) if count * self.threshold >= total), len(lags)
            )
        if self.lagging_only:
            bound = sum(lag > 0 for lag in lags)
        if total // self.threshold > bound:
            total = bound * self.threshold
        return total


def divisors(number: int) -> list[int]:
    """Return the numbers that divide it, in ascending order."""
    return [one for one in range(1, number + 1) if number % one == 0]


class Autoscaler:
    """One HorizontalPodAutoscaler with one external metric of type AverageValue."""

    def __init__(self, target: int, replicas: int, *, stabilization: int = 300) -> None:
        """Take the target per pod, the replicas that there are, and `scaleDown.stabilizationWindowSeconds`."""
        self._target = target
        self._stabilization = stabilization
        self._recommended: list[tuple[float, int]] = [(-float(PERIOD), replicas)]
        self._added: list[tuple[float, int]] = []
        self._removed: list[tuple[float, int]] = []

    def desired(self, now: float, replicas: int, metric: int | None) -> int:
        """
        Return the replicas that it sets at `now`, when there are `replicas`.

        Without a metric, because its source has failed, it leaves things as they are.
        """
        if metric is None:
            return replicas
        wanted = self._stabilized(now, replicas, self.proposal(replicas, metric))
        if wanted > replicas:
            wanted = min(wanted, max(replicas, self._limit(now, replicas)), MAX_REPLICAS)
        # 100 % may go in one period, so `minReplicas` alone limits the way down.
        wanted = max(1, wanted)
        if wanted > replicas:
            self._added.append((now, wanted - replicas))
        elif wanted < replicas:
            self._removed.append((now, replicas - wanted))
        return wanted

    def proposal(self, replicas: int, metric: int) -> int:
        """Return what the metric alone asks for."""
        if replicas == 0:
            return 0
        ratio = metric / (self._target * replicas)
        return replicas if abs(1 - ratio) <= TOLERANCE else math.ceil(metric / self._target)

    def _stabilized(self, now: float, replicas: int, proposal: int) -> int:
        recent = [one for at, one in self._recommended if at > now - self._stabilization]
        highest = max([proposal, *recent])
        self._recommended = [(at, one) for at, one in self._recommended if at > now - self._stabilization]
        self._recommended.append((now, proposal))
        # Upwards the window is 0 seconds: the proposal itself is the lower bound.
        return min(max(replicas, proposal), highest)

    def _limit(self, now: float, replicas: int) -> int:
        """Return the most that the default policies of `scaleUp` allow."""
        self._added = [(at, one) for at, one in self._added if at > now - PERIOD]
        self._removed = [(at, one) for at, one in self._removed if at > now - PERIOD]
        before = replicas - sum(one for _, one in self._added) + sum(one for _, one in self._removed)
        return max(before + UP_PODS, math.ceil(before * (1 + UP_PERCENT / 100)))
