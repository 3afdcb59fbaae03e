"""A KafkaConsumer: which Deployment consumes what, and how it is to be scaled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, cast, get_args

from lagscaler.policy.model import OffsetReset, Spec
from lagscaler.resources.reading import InvalidResourceError, Key, Section, key_of, version_of


class Mode(StrEnum):
    """Who decides on the replicas."""

    AUTO = "Auto"
    """The policy, by lag."""
    MANUAL = "Manual"
    """`spec.replicas`."""
    PAUSED = "Paused"
    """Whoever writes to the Deployment: the operator touches nothing."""
    DRY_RUN = "DryRun"
    """As in PAUSED, and the policy's decisions are shown."""


@dataclass(frozen=True, slots=True)
class KafkaConsumer:
    """One of them, as its owner wrote it, with the status that it has."""

    key: Key
    uid: str
    generation: int
    created: str
    version: int
    target: str
    """Name of the Deployment, in the same namespace."""
    cluster: str
    group: str
    topics: tuple[str, ...]
    mode: Mode
    replicas: int | None
    """In mode Manual; None where nobody said how many, which is not zero."""
    policy: Spec
    read_committed: bool = True
    service: str | None = None
    bridge: str | None = None
    status: Mapping[str, Any] = field(default_factory=dict)

    @property
    def seniority(self) -> tuple[str, str]:
        """What puts the older of two resources first, the same way after every restart."""
        return (self.created, self.uid)


def parse_consumer(body: Mapping[str, Any], *, strict: bool = False) -> KafkaConsumer:
    """
    Return a KafkaConsumer from the API server's dict; raise InvalidResourceError with the field.

    `strict` refuses unknown fields, too; what comes from the API server may be of a newer CRD.
    """
    spec = Section(body.get("spec"), "spec")
    target = spec.section("targetRef")
    if (kind := target.text("kind", "Deployment")) != "Deployment":
        raise InvalidResourceError(f"spec.targetRef.kind is {kind}; only a Deployment can be scaled")
    mode = spec.text("mode", Mode.AUTO)
    if mode not in set(Mode):
        raise InvalidResourceError(f"spec.mode is {mode!r}; known are {', '.join(Mode)}")
    service, bridge = spec.text("service", "") or None, spec.text("bridge", "main")
    metadata = body["metadata"]
    found = KafkaConsumer(
        key=key_of(body),
        uid=metadata.get("uid", ""),
        generation=metadata.get("generation", 1),
        created=metadata.get("creationTimestamp", ""),
        version=version_of(body),
        target=target.text("name"),
        cluster=spec.text("cluster", "main"),
        group=spec.text("group"),
        topics=spec.texts("topics"),
        mode=Mode(mode),
        replicas=spec.whole("replicas", 0) if "replicas" in spec else None,
        policy=_policy(spec),
        read_committed=spec.flag("readCommitted", default=True),
        service=service,
        bridge=bridge if service else None,
        status=body.get("status") or {},
    )
    if strict:
        spec.done()
    return found


def _policy(spec: Section) -> Spec:
    scaling, slo, rebalance = spec.section("scaling"), spec.section("slo"), spec.section("rebalance")
    capacity, idle, fallback = spec.section("capacity"), spec.section("idle"), spec.section("fallback")
    reset = spec.text("offsetReset", Spec().offset_reset)
    if reset not in get_args(OffsetReset):
        raise InvalidResourceError(f"spec.offsetReset is {reset!r}; known are {', '.join(get_args(OffsetReset))}")
    default = Spec()
    return Spec(
        latency=slo.number("latencySeconds", default.latency),
        slack=slo.number("slack", default.slack),
        utilization=slo.number("utilization", default.utilization),
        min_replicas=scaling.whole("minReplicas", default.min_replicas),
        max_replicas=scaling.whole("maxReplicas", 0) if "maxReplicas" in scaling else None,
        poll=scaling.number("pollSeconds", default.poll),
        capacity=capacity.number("perReplica", 0) if "perReplica" in capacity else None,
        window=capacity.number("windowSeconds", default.window),
        rebalances_per_hour=rebalance.whole("maxPerHour", default.rebalances_per_hour),
        scale_down_after=rebalance.number("scaleDownAfterSeconds", default.scale_down_after),
        cooldown=rebalance.number("cooldownSeconds", default.cooldown),
        to_zero=idle.flag("toZero", default=default.to_zero),
        idle_after=idle.number("afterSeconds", default.idle_after),
        activation_lag=idle.number("activationLag", default.activation_lag),
        stall_after=spec.section("stall").number("afterSeconds", default.stall_after),
        fallback_after=fallback.number("afterSeconds", default.fallback_after),
        fallback_replicas=fallback.whole("replicas", 0) if "replicas" in fallback else None,
        offset_reset=cast(OffsetReset, reset),
        read_committed=spec.flag("readCommitted", default=default.read_committed),
    )
