"""Whether a consumer can be scaled at all, and if not, why and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lagscaler.resources.consumer import KafkaConsumer, Mode
from lagscaler.resources.target import Claim, Target


@dataclass(frozen=True, slots=True)
class Obstacle:
    """What stands between a consumer and its scaling."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is around a consumer, apart from Kafka."""

    target: Target | None
    claims: Sequence[Claim] = ()
    """Other autoscalers of the same Deployment."""
    elder: KafkaConsumer | None = None
    """An older KafkaConsumer of the same Deployment."""
    cluster_known: bool = True
    """Whether the settings have its Kafka cluster."""
    admitted: bool = True
    """Whether its namespace may use that cluster."""
    stage: str | None = None
    """Of the service that it serves; None when there is none, or it is not known."""


def obstacle(consumer: KafkaConsumer, around: Surroundings, *, off: bool) -> Obstacle | None:
    """Return why a consumer cannot be scaled, None when it can; `off`: somebody else set its Deployment to zero."""
    name = consumer.target
    if not around.cluster_known:
        return Obstacle(
            "ClusterUnknown",
            f"the operator's settings have no Kafka cluster {consumer.cluster!r};"
            " correct spec.cluster, or add it there",
        )
    if not around.admitted:
        return Obstacle(
            "ClusterUnknown",
            f"the namespace {consumer.key.namespace} may not use the Kafka cluster {consumer.cluster!r};"
            f" it may once clusters.{consumer.cluster}.namespaces of the operator's settings names it",
        )
    if around.target is None:
        return Obstacle(
            "TargetMissing", f"there is no Deployment {name} in this namespace; correct spec.targetRef.name"
        )
    if around.elder is not None:
        elder = around.elder.key.name
        return Obstacle(
            "TargetTaken", f"the Deployment {name} is scaled by the older KafkaConsumer {elder}; delete one of the two"
        )
    if around.claims and consumer.mode is not Mode.PAUSED:
        others = " and ".join(f"{claim.kind} {claim.key.name}" for claim in around.claims)
        return Obstacle(
            "TargetContested",
            f"the Deployment {name} is scaled by {others} too, so nothing is scaled here;"
            " delete that, or set mode: Paused",
        )
    if off:
        return Obstacle(
            "SwitchedOff",
            f"somebody set the Deployment {name} to zero, and it stays there until it is set to one or more:"
            f" kubectl scale deployment {name} --replicas=1",
        )
    return None


def refusal(consumer: KafkaConsumer, sentence: str) -> Obstacle:
    """Return what stands in the way when the API server refused the last write of replicas in these words."""
    return Obstacle(
        "ScaleRefused", f"the API server refuses to scale the Deployment {consumer.target}: {sentence.rstrip('.')}"
    )


def switched_off(consumer: KafkaConsumer, target: Target | None, desired: int | None, *, before: bool) -> bool:
    """
    Return whether somebody else set the Deployment to zero, which is obeyed, as by a HorizontalPodAutoscaler.

    `desired` is what the operator last wanted, None when it did not yet want anything; `before`: whether it was off.
    A consumer that may go to zero by itself is never off: there zero is a number as any other.
    """
    if target is None or target.replicas > 0 or consumer.mode is not Mode.AUTO or consumer.policy.to_zero:
        return False
    return before or desired != 0
