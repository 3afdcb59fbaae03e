"""KafkaConsumers from the API server's dicts, and their CRD."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from lagscaler.policy.model import Spec
from lagscaler.resources.consumer import Mode, parse_consumer
from lagscaler.resources.reading import InvalidResourceError, Key
from tests.unit.lagscaler.crds import completed, definition

MINIMAL = {
    "metadata": {
        "name": "orders", "namespace": "shop", "uid": "u1", "generation": 1, "resourceVersion": "7",
        "creationTimestamp": "2026-01-02T03:04:05Z",
    },
    "spec": {"targetRef": {"name": "worker"}, "group": "g", "topics": ["t"]},
}  # fmt: skip


def body(**spec: Any) -> dict[str, Any]:
    found = deepcopy(MINIMAL)
    found["spec"] |= spec
    return found


def test_the_defaults_are_the_policys_with_or_without_the_api_server() -> None:
    defaulted = deepcopy(MINIMAL)
    defaulted["spec"] = completed(definition("kafkaconsumers"), MINIMAL["spec"])
    assert defaulted["spec"]["mode"] == "Auto"
    for one in (MINIMAL, defaulted):
        consumer = parse_consumer(one)
        assert consumer.policy == Spec()
        assert consumer.mode is Mode.AUTO
        assert consumer.read_committed
        assert consumer.cluster == "main"
    assert parse_consumer(MINIMAL) == parse_consumer(defaulted)


def test_every_field_reaches_its_place() -> None:
    spec = {
        "cluster": "side", "topics": ["a", "b"], "offsetReset": "latest", "readCommitted": False, "replicas": 4,
        "mode": "DryRun", "service": "orders",
        "scaling": {"minReplicas": 2, "maxReplicas": 9, "pollSeconds": 1.5},
        "slo": {"latencySeconds": 30, "slack": 0.4, "utilization": 0.8},
        "capacity": {"perReplica": 12.5, "windowSeconds": 60},
        "rebalance": {"maxPerHour": 3, "scaleDownAfterSeconds": 20, "cooldownSeconds": 10},
        "idle": {"toZero": True, "afterSeconds": 7, "activationLag": 5},
        "stall": {"afterSeconds": 44}, "fallback": {"afterSeconds": 55, "replicas": 6},
    }  # fmt: skip
    consumer = parse_consumer(body(**spec))
    assert consumer.policy == Spec(
        latency=30, slack=0.4, utilization=0.8, min_replicas=2, max_replicas=9, poll=1.5, capacity=12.5, window=60,
        rebalances_per_hour=3, scale_down_after=20, cooldown=10, to_zero=True, idle_after=7, activation_lag=5,
        stall_after=44, fallback_after=55, fallback_replicas=6, offset_reset="latest", read_committed=False,
    )  # fmt: skip
    assert consumer.key == Key("shop", "orders")
    assert (consumer.cluster, consumer.topics, consumer.read_committed) == ("side", ("a", "b"), False)
    assert (consumer.mode, consumer.replicas) == (Mode.DRY_RUN, 4)
    assert (consumer.service, consumer.bridge) == ("orders", "main")


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"group": None}, "spec.group is missing"),
        ({"topics": []}, "spec.topics must be a list of names"),
        ({"targetRef": {"kind": "StatefulSet", "name": "x"}}, "only a Deployment can be scaled"),
        ({"targetRef": {}}, "spec.targetRef.name is missing"),
        ({"mode": "Off"}, "spec.mode is 'Off'; known are Auto, Manual"),
        ({"offsetReset": "now"}, "spec.offsetReset is 'now'"),
        ({"scaling": {"minReplicas": 1.5}}, "spec.scaling.minReplicas must be a whole number"),
        ({"scaling": {"pollSeconds": True}}, "spec.scaling.pollSeconds must be a number"),
        ({"idle": {"toZero": "yes"}}, "spec.idle.toZero must be true or false"),
        ({"slo": 5}, "spec.slo is not a mapping"),
    ],
)
def test_what_no_crd_of_ours_would_let_through_is_told(spec: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidResourceError) as refused:
        parse_consumer(body(**spec))
    assert words in str(refused.value)


@pytest.mark.parametrize("generation", [1, 2])
@pytest.mark.parametrize(
    ("spec", "asked"), [({}, None), ({"replicas": None}, None), ({"replicas": 0}, 0), ({"replicas": 3}, 3)]
)
def test_a_number_that_nobody_wrote_is_none_and_not_zero(
    spec: dict[str, Any], asked: int | None, generation: int
) -> None:
    found = body(mode="Manual", **spec)
    found["metadata"]["generation"] = generation
    found["spec"] = completed(definition("kafkaconsumers"), found["spec"])
    assert parse_consumer(found).replicas == asked


def test_the_columns_and_the_scale_subresource() -> None:
    version = definition("kafkaconsumers")["spec"]["versions"][0]
    columns = [one["name"] for one in version["additionalPrinterColumns"]]
    assert columns == ["Stage", "Mode", "Ready", "Replicas", "Desired", "LagSec", "Lag", "SLO", "Reason", "Age"]
    assert version["subresources"]["scale"] == {
        "specReplicasPath": ".spec.replicas",
        "statusReplicasPath": ".status.replicas",
        "labelSelectorPath": ".status.selector",
    }
    assert "status" in version["subresources"]
