"""What is known of Kubernetes, in whatever order it is told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lagscaler.controller.world import World
from lagscaler.kubernetes.kinds import AUTOSCALERS, CONSUMERS, CUTOVERS, DEPLOYMENTS, SCALED_OBJECTS, Kind
from lagscaler.resources.reading import Key
from lagscaler.settings import BridgeSettings, ClusterSettings, Settings
from tests.unit.lagscaler.builders import consumer, consumer_body, cutover, cutover_body, deployment_body, metadata
from tests.unit.lagscaler.fakes import SETTINGS

ORDERS = Key("shop", "orders")


class Seen:
    """A world, and what it said had changed."""

    def __init__(self) -> None:
        self.changed: list[tuple[str, str]] = []
        self.world = World(lambda kind, key: self.changed.append((kind.name, key.name)))
        self.world.settings = SETTINGS

    def see(self, kind: Kind, body: object, happened: str | None = "MODIFIED") -> list[tuple[str, str]]:
        """Return what a resource changes."""
        self.changed.clear()
        self.world.see(kind, happened, body)  # type: ignore[arg-type]
        return list(self.changed)


def autoscaler(name: str = "hpa", target: str = "worker", **more: object) -> dict[str, object]:
    return {"metadata": metadata(name), "spec": {"scaleTargetRef": {"kind": "Deployment", "name": target, **more}}}


def test_only_what_matters_is_a_change() -> None:
    seen = Seen()
    orders = ("KafkaConsumer", "orders")
    assert seen.see(DEPLOYMENTS, deployment_body(1)) == []
    assert seen.see(CONSUMERS, consumer_body()) == [orders]
    assert seen.see(CONSUMERS, consumer_body(status={"lag": 1}, meta={"resourceVersion": "11"})) == []
    assert seen.see(CONSUMERS, consumer_body(meta={"resourceVersion": "12", "generation": 2})) == [orders]
    assert seen.see(DEPLOYMENTS, deployment_body(1, version=21, ready=0)) == []
    assert seen.see(DEPLOYMENTS, deployment_body(2, version=22)) == [orders]
    assert seen.see(DEPLOYMENTS, deployment_body(2, version=23), "DELETED") == [orders]
    assert seen.see(CONSUMERS, consumer_body(), "DELETED") == [orders]
    assert seen.see(CONSUMERS, consumer_body(), "DELETED") == []


def test_an_older_version_does_not_come_back() -> None:
    seen = Seen()
    seen.see(CONSUMERS, consumer_body())
    seen.see(DEPLOYMENTS, deployment_body(5, version=30))
    assert seen.see(DEPLOYMENTS, deployment_body(3, version=29)) == []
    found = seen.world.target_of(consumer())
    assert found is not None
    assert found.replicas == 5
    seen.see(CONSUMERS, consumer_body(group="new", meta={"resourceVersion": "40"}))
    seen.see(CONSUMERS, consumer_body(group="old", meta={"resourceVersion": "39"}))
    assert seen.world.consumers[ORDERS].group == "new"
    seen.see(CONSUMERS, consumer_body(group="anew", meta={"resourceVersion": "41", "uid": "another"}))
    assert seen.world.consumers[ORDERS].group == "anew"


REPLACED: list[tuple[Kind, Any]] = [
    (CONSUMERS, consumer_body), (CUTOVERS, cutover_body),
    (DEPLOYMENTS, lambda meta: {**deployment_body(2, "orders"), "metadata": metadata("orders", **meta)}),
    (AUTOSCALERS, lambda meta: {**autoscaler("orders"), "metadata": metadata("orders", **meta)}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "body"), REPLACED, ids=[kind.name for kind, _ in REPLACED])
def test_what_is_told_late_of_one_that_was_replaced_counts_for_nothing(kind: Kind, body: Any) -> None:
    """Each identity has a queue of its own on the way here, and the one of what is gone may be the slower."""

    def one(uid: str, version: int) -> dict[str, Any]:
        return dict(body(meta={"uid": uid, "resourceVersion": str(version)}))

    seen = Seen()
    seen.see(CONSUMERS, consumer_body("second"))
    second = seen.world.consumers[Key("shop", "second")]
    seen.see(kind, one("first", 12))
    seen.see(kind, one("heir", 15), "ADDED")
    assert seen.see(kind, one("first", 13)) == []
    assert seen.world.known(kind)[ORDERS] == "heir"
    assert seen.see(kind, one("first", 14), "DELETED") == []
    seen.world.forget(kind, ORDERS, "first")
    assert seen.world.known(kind)[ORDERS] == "heir"
    found = {
        CONSUMERS: ORDERS in seen.world.consumers,
        CUTOVERS: ORDERS in seen.world.cutovers,
        DEPLOYMENTS: ORDERS in seen.world.targets,
        AUTOSCALERS: [claim.key for claim in seen.world.claims_on(second)] == [ORDERS],
    }
    assert found[kind]
    seen.see(kind, one("heir", 16), "DELETED")
    assert ORDERS not in seen.world.known(kind)
    assert seen.world.claims_on(second) == []


def test_a_deployment_that_went_while_it_was_scaled_does_not_come_back() -> None:
    seen = Seen()
    seen.see(DEPLOYMENTS, deployment_body(1))
    before = seen.world.targets[Key("shop", "worker")]
    seen.see(DEPLOYMENTS, deployment_body(1), "DELETED")
    seen.world.scaled(replace(before, replicas=2))
    assert seen.world.targets == {}


def test_autoscalers_are_found_by_the_deployment_that_they_scale() -> None:
    seen = Seen()
    seen.see(CONSUMERS, consumer_body())
    assert seen.see(AUTOSCALERS, autoscaler()) == [("KafkaConsumer", "orders")]
    assert seen.see(AUTOSCALERS, autoscaler()) == []
    assert seen.see(AUTOSCALERS, autoscaler("other", "elsewhere")) == []
    assert seen.see(AUTOSCALERS, autoscaler("set", kind="StatefulSet")) == []
    keda = {"metadata": metadata("keda"), "spec": {"scaleTargetRef": {"name": "worker"}}}
    seen.see(SCALED_OBJECTS, keda)
    assert [(one.kind, one.key.name) for one in seen.world.claims_on(consumer())] == [
        ("HorizontalPodAutoscaler", "hpa"), ("ScaledObject", "keda"),
    ]  # fmt: skip
    assert seen.see(AUTOSCALERS, autoscaler("hpa", "elsewhere")) == [("KafkaConsumer", "orders")]
    assert seen.see(SCALED_OBJECTS, keda, "DELETED") == [("KafkaConsumer", "orders")]
    assert seen.world.claims_on(consumer()) == []
    assert seen.world.known(AUTOSCALERS) == {Key("shop", name): f"uid-{name}" for name in ("hpa", "other", "set")}
    assert seen.world.known(SCALED_OBJECTS) == {}


def test_the_oldest_consumer_of_a_deployment_is_the_elder_and_its_heir_is_told() -> None:
    seen = Seen()
    late = {"creationTimestamp": "2026-03-01T00:00:00Z"}
    seen.see(CONSUMERS, consumer_body("late", meta=late))
    assert set(seen.see(CONSUMERS, consumer_body())) == {("KafkaConsumer", "late"), ("KafkaConsumer", "orders")}
    elder = seen.world.elder(consumer("late", meta=late))
    assert elder is not None
    assert elder.key == ORDERS
    assert seen.world.elder(consumer()) is None
    assert ("KafkaConsumer", "late") in seen.see(CONSUMERS, consumer_body(), "DELETED")
    assert seen.world.elder(consumer("late", meta=late)) is None


def test_a_consumer_that_names_another_deployment_frees_the_first() -> None:
    seen = Seen()
    seen.see(CONSUMERS, consumer_body())
    seen.see(CONSUMERS, consumer_body("second", meta={"creationTimestamp": "2026-03-01T00:00:00Z"}))
    moved = consumer_body(targetRef={"name": "other"}, meta={"generation": 2, "resourceVersion": "11"})
    assert set(seen.see(CONSUMERS, moved)) == {("KafkaConsumer", "orders"), ("KafkaConsumer", "second")}
    second = seen.world.consumers[Key("shop", "second")]
    assert seen.world.elder(second) is None


def test_what_is_not_as_its_crd_says_is_left_alone() -> None:
    seen = Seen()
    seen.see(CONSUMERS, consumer_body())
    seen.see(CONSUMERS, consumer_body(topics=[], meta={"resourceVersion": "12"}))
    assert seen.world.consumers == {}
    seen.see(CUTOVERS, cutover_body())
    seen.see(CUTOVERS, cutover_body(stage=5, meta={"resourceVersion": "12"}))
    assert seen.world.cutovers == {}


def test_the_oldest_cutover_of_a_service_that_may_use_its_bridge_is_the_elder() -> None:
    seen = Seen()
    early = {"creationTimestamp": "2025-01-01T00:00:00Z"}
    seen.see(CUTOVERS, cutover_body())
    seen.see(CUTOVERS, cutover_body("stranger", meta={"namespace": "other", **early}))
    seen.see(CUTOVERS, cutover_body("payments", service="payments", meta=early))
    assert seen.world.elder_cutover(cutover()) is None
    seen.see(CUTOVERS, cutover_body("older", meta=early))
    elder = seen.world.elder_cutover(cutover())
    assert elder is not None
    assert elder.key.name == "older"


@pytest.mark.parametrize(
    ("namespaces", "allowed"), [((), False), (("other",), False), (("other", "shop"), True), (("*",), True)]
)
def test_who_may_use_a_cluster_and_a_bridge(namespaces: tuple[str, ...], allowed: bool) -> None:
    seen = Seen()
    clusters = {"main": ClusterSettings("main", "kafka:9092", namespaces=namespaces)}
    bridges = {"main": BridgeSettings("main", "http://shop", Path("/token"), namespaces=namespaces)}
    seen.world.settings = Settings(clusters, bridges)
    assert seen.world.may_use_cluster(consumer()) == allowed
    assert seen.world.may_use_bridge("shop", "main") == allowed
    assert not seen.world.may_use_cluster(consumer(cluster="side"))
    assert not seen.world.may_use_bridge("shop", "side")
