"""The contestants: each looks at the plant in its own rhythm and says how many replicas there should be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from benchmarks.autoscaling.keda import PERIOD, Autoscaler, KafkaScaler
from benchmarks.autoscaling.plant import Plant
from lagscaler.policy.decide import decide
from lagscaler.policy.history import History
from lagscaler.policy.model import Decision, Gap, PartitionSample, Sample, Spec, State, TopicPartition

EPOCH = 1_700_000_000.0
"""The moment of second 0, so that times are as large as in production."""

TOPIC = "topic"


class Policy(Protocol):
    """What scales one group during one run."""

    looks: int
    """Seconds between two looks."""

    def replicas(self, plant: Plant, *, reachable: bool) -> int:
        """Return how many replicas there should be; `reachable`: whether Kafka answers."""
        ...


class Fixed:
    """A number of replicas that somebody has chosen."""

    looks = 7200

    def __init__(self, replicas: int) -> None:
        self._replicas = replicas

    def replicas(self, plant: Plant, *, reachable: bool) -> int:
        """Return the same number always."""
        del plant, reachable
        return self._replicas


class Keda:
    """A ScaledObject and its HorizontalPodAutoscaler."""

    looks = PERIOD

    def __init__(self, scaler: KafkaScaler, replicas: int, *, stabilization: int) -> None:
        self._scaler = scaler
        self._autoscaler = Autoscaler(scaler.threshold, replicas, stabilization=stabilization)

    def replicas(self, plant: Plant, *, reachable: bool) -> int:
        """Return what the autoscaler sets, for the lag that KEDA reads at this moment."""
        metric = self._scaler.metric(lags(plant)) if reachable else None
        return self._autoscaler.desired(plant.now, plant.replicas, metric)


def lags(plant: Plant) -> list[int]:
    """Return end offset less committed offset of each partition."""
    return [end - int(committed) for end, committed in zip(plant.ends(), plant.committed, strict=True)]


class Lagscaler:
    """The operator's policy, with nothing but samples between it and the plant."""

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self.looks = round(spec.poll)
        self._history = History(spec.window)
        self._state = State()
        self.decisions: list[Decision] = []
        """All that it has decided, for whoever wants to know why."""

    def replicas(self, plant: Plant, *, reachable: bool) -> int:
        """Return what is decided on the newest sample."""
        sample = sampled(plant) if reachable else missing(plant)
        self._history.add(sample)
        decision = decide(self._history, self._spec, self._state)
        self._state = decision.state
        self.decisions.append(decision)
        return decision.replicas


def sampled(plant: Plant) -> Sample:
    """Return what a sampler would have found."""
    partitions: dict[TopicPartition, PartitionSample] = {
        (TOPIC, number): PartitionSample(
            start=0,
            end=end,
            committed=int(committed),
            busy=busy,
            member=None if owner is None else f"pod-{owner}",
        )
        for number, (end, committed, busy, owner) in enumerate(_columns(plant))
    }
    return Sample(
        at=EPOCH + plant.now,
        partitions=partitions,
        replicas=plant.replicas,
        ready=plant.ready,
        members=plant.members,
        rebalancing=plant.rebalancing,
    )


def _columns(plant: Plant) -> Sequence[tuple[int, float, float | None, int | None]]:
    return list(zip(plant.ends(), plant.committed, plant.busy, plant.owners, strict=True))


def missing(plant: Plant) -> Sample:
    """Return what a sampler brings back from a Kafka that does not answer: what Kubernetes knows."""
    return Sample(
        at=EPOCH + plant.now,
        partitions={},
        replicas=plant.replicas,
        ready=plant.ready,
        gaps={Gap.UNREACHABLE: "no broker answered within 10 s"},
    )
