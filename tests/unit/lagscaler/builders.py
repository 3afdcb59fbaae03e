"""Resources and decisions for tests: complete, with the fields that a test is about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lagscaler.bridge.client import Standing
from lagscaler.policy.model import Decision, Reason, State
from lagscaler.resources.consumer import KafkaConsumer, parse_consumer
from lagscaler.resources.cutover import Cutover, parse_cutover
from lagscaler.resources.reading import Key
from lagscaler.resources.target import Target

CREATED = "2026-01-02T03:04:05Z"


def metadata(name: str, **more: Any) -> dict[str, Any]:
    """Return the metadata of a resource in the namespace `shop`."""
    return {
        "name": name, "namespace": "shop", "uid": f"uid-{name}", "generation": 1, "resourceVersion": "10",
        "creationTimestamp": CREATED, **more,
    }  # fmt: skip


def consumer_body(name: str = "orders", *, status: Any = None, meta: Any = None, **spec: Any) -> dict[str, Any]:
    """Return a KafkaConsumer as the API server has it; its Deployment is `worker`."""
    whole = {"targetRef": {"name": "worker"}, "group": "g", "topics": ["t"], **spec}
    return {"metadata": metadata(name, **(meta or {})), "spec": whole, "status": status or {}}


def consumer(name: str = "orders", *, status: Any = None, meta: Any = None, **spec: Any) -> KafkaConsumer:
    """Return a KafkaConsumer."""
    return parse_consumer(consumer_body(name, status=status, meta=meta, **spec))


def deployment_body(
    replicas: int, name: str = "worker", version: int = 20, ready: int | None = None, writer: str = ""
) -> dict[str, Any]:
    """Return a Deployment as the API server has it; `writer` set its replicas."""
    meta = metadata(name, resourceVersion=str(version))
    if writer:
        fields = {"f:spec": {"f:replicas": {}}}
        meta["managedFields"] = [{"manager": writer, "time": CREATED, "fieldsV1": fields}]
    return {
        "metadata": meta,
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": name}}},
        "status": {"replicas": replicas, "readyReplicas": replicas if ready is None else ready},
    }


def target(replicas: int, name: str = "worker", version: int = 20, writer: str = "") -> Target:
    """Return a Deployment whose pods are all ready."""
    return Target(Key("shop", name), version, replicas, replicas, replicas, f"app={name}", writer)


def decision(replicas: int, reason: Reason = Reason.STEADY, **more: Any) -> Decision:
    """Return a decision."""
    return Decision(
        replicas, reason, more.pop("sentence", f"{reason} at {replicas}."), more.pop("state", State()), **more
    )


def cutover_body(
    name: str = "orders", *, status: Any = None, meta: Mapping[str, Any] | None = None, **spec: Any
) -> dict[str, Any]:
    """Return a Cutover of the service `orders` as the API server has it."""
    return {
        "metadata": metadata(name, **(meta or {})),
        "spec": {"service": "orders", **spec},
        "status": status or {},
    }


def cutover(name: str = "orders", *, status: Any = None, meta: Mapping[str, Any] | None = None, **spec: Any) -> Cutover:
    """Return a Cutover of the service `orders`."""
    return parse_cutover(cutover_body(name, status=status, meta=meta, **spec))


def standing(stage: str = "off", percent: float = 0.0, epoch: int = 1, **more: Any) -> Standing:
    """Return how `orders` stands."""
    values = {"service": "orders", "hold": False, "changed_at": CREATED, "fenced": False, "tasks": 0, **more}
    return Standing(stage=stage, percent=percent, epoch=epoch, **values)
