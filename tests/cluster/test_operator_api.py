"""The operator against a real API server and a real Kafka: KafkaConsumers, as `kubectl` shows and moves them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from lagscaler.policy.model import Reason
from tests.cluster.kube import wait_for
from tests.cluster.operating import (
    CHART,
    PATIENCE,
    Log,
    Members,
    Operator,
    Pass,
    Town,
    admit,
    golden_rights,
    rights,
    steady,
)

pytestmark = pytest.mark.services

SCALED_OBJECTS = "scaledobjects.keda.sh"

AUTOSCALERS = {
    "HorizontalPodAutoscaler": ("autoscaling/v2", {"minReplicas": 1, "maxReplicas": 3}),
    "ScaledObject": ("keda.sh/v1alpha1", {"triggers": [{"type": "cpu", "metadata": {"value": "80"}}]}),
}
"""The version of the API, and what a spec has besides the Deployment."""


@pytest.fixture(scope="module")
def scaled_objects(town: Town) -> Iterator[None]:
    """The cluster, knowing KEDA's kind; nobody acts on it, where KEDA is not there anyway."""
    if "NotFound" not in town.kube.run("get", "crd", SCALED_OBJECTS, check=False):
        yield
        return
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1alpha1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    town.kube.apply(
        {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": SCALED_OBJECTS},
            "spec": {
                "group": "keda.sh",
                "scope": "Namespaced",
                "names": {"kind": "ScaledObject", "plural": "scaledobjects", "singular": "scaledobject"},
                "versions": [version],
            },
        }
    )
    town.kube.run("wait", "--for=condition=Established", f"crd/{SCALED_OBJECTS}")
    yield
    town.kube.run("delete", "crd", SCALED_OBJECTS, "--timeout=60s")


@pytest.fixture(scope="module")
def admitted(town: Town, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pass]:
    """What the operator has in a cluster: the rights that the chart gives it, and no other."""
    one = Pass(town.kube, town.namespace, tmp_path_factory.mktemp("pass"), "--set", "watch.scaledObjects=true")
    yield one
    one.way.cut()


@pytest.fixture(scope="module")
def operator(
    town: Town, admitted: Pass, scaled_objects: None, kafka_bootstrap: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Operator]:
    """The operator, at work."""
    served = {"namespaces": [town.namespace]}
    clusters = {"main": {"bootstrapServers": kafka_bootstrap, **served}}
    settings = {"clusters": clusters, "scaledObjects": True, **served}
    one = Operator(tmp_path_factory.mktemp("operator"), admitted.kubeconfig, settings)
    one.start()
    yield one
    one.kill()


@pytest.fixture
def log(operator: Operator, kafka_bootstrap: str) -> Callable[..., Log]:
    """A function that makes a topic and its group."""
    return lambda: Log(kafka_bootstrap, f"op-{uuid4().hex[:12]}")


def test_the_columns_say_how_a_consumer_stands(town: Town, log: Callable[..., Log]) -> None:
    topic = log()
    topic.write(5)
    topic.commit(5)
    town.deployment("columns", 1)
    town.consumer("columns", topic)
    town.wait("columns", "Ready", "Auto")
    town.wait("columns", "SLOMet", "Within")
    wait_for(lambda: town.row("kcon", "columns")["REPLICAS"] == "1", "the replicas are shown", PATIENCE)
    row = town.row("kafkaconsumers", "columns")
    assert row.pop("AGE")
    assert row.pop("REASON") in set(Reason)
    assert row == {
        "NAME": "columns", "STAGE": "", "MODE": "Auto", "READY": "True", "REPLICAS": "1", "DESIRED": "1",
        "LAGSEC": "0", "LAG": "0", "SLO": "30",
    }  # fmt: skip
    assert town.status("columns")["partitions"]["total"] == 4
    assert town.status("columns")["observedGeneration"] == 1
    assert "kafkaconsumer.taskbridge.dev/columns" in town.run("get", "taskbridge", "--output", "name")


def cells(found: dict[str, Any]) -> dict[str, str]:
    """Return what the columns have to show of a KafkaConsumer, but for its age."""
    spec, status = found["spec"], found["status"]
    [ready] = [one["status"] for one in status["conditions"] if one["type"] == "Ready"]
    return {
        "NAME": found["metadata"]["name"], "STAGE": status.get("stage", ""), "MODE": spec["mode"], "READY": ready,
        "REPLICAS": str(status["replicas"]), "DESIRED": str(status["desiredReplicas"]),
        "LAGSEC": str(status["lagSeconds"]), "LAG": str(status["lag"]), "SLO": str(spec["slo"]["latencySeconds"]),
        "REASON": status["reason"],
    }  # fmt: skip


def test_a_backlog_is_met_with_replicas_and_they_go_when_it_is_gone(
    town: Town, log: Callable[..., Log], kafka_bootstrap: str
) -> None:
    topic = log()
    topic.commit(0)
    town.deployment("burst", 1)
    with Members(kafka_bootstrap, topic, 4) as members:
        town.consumer("burst", topic)
        town.wait("burst", "SLOMet", "Within")
        topic.write(2_000)
        # Eight thousand records at a hundred a second of a replica: four partitions allow no more than four.
        assert 1 < town.wait_more("burst", 1) <= 4
        assert town.wait_event("burst", "ScaledUp")["source"]["component"] == "lagscaler"
        # There is more than one when it grows in two steps; the status only has the last.
        assert any("1 → " in one["message"] for one in town.events("burst", "ScaledUp"))
        wait_for(lambda: town.status("burst").get("lastScale", {}).get("to", 0) > 1, "the change is shown", PATIENCE)
        members.work()
        town.wait_replicas("burst", 1)
        town.wait_event("burst", "ScaledDown")
        wait_for(lambda: town.status("burst").get("lag") == 0, "no lag is shown", PATIENCE)


def test_scale_works_in_manual_and_is_refused_elsewhere(town: Town, log: Callable[..., Log]) -> None:
    topic = log()
    topic.commit(0)
    town.deployment("manual", 1)
    town.consumer("manual", topic)
    town.wait("manual", "Ready", "Auto")
    said = town.run("scale", "kcon/manual", "--replicas=3", check=False)
    assert "replicas are set by hand in mode Manual only" in said
    assert '{"spec":{"mode":"Manual","replicas":3}}' in said
    assert "say how many replicas" in town.change("kcon", "manual", {"mode": "Manual"}, check=False)
    said = town.change("kcon", "manual", {"mode": "Manual", "replicas": 0}, check=False)
    assert "say how many replicas" in said
    town.change("kcon", "manual", {"mode": "Manual", "replicas": 2})
    town.wait_replicas("manual", 2)
    town.run("scale", "kcon/manual", "--replicas=3")
    town.wait_replicas("manual", 3)
    assert "say how many replicas" in town.change("kcon", "manual", {"replicas": None}, check=False)
    town.run("scale", "kcon/manual", "--replicas=0")
    town.wait_replicas("manual", 0)
    town.change("kcon", "manual", {"slo": {"latencySeconds": 60}})
    town.run("scale", "kcon/manual", "--replicas=1")
    town.wait_replicas("manual", 1)
    selected = wait_for(lambda: town.status("manual").get("selector"), "the selector is shown", PATIENCE)
    assert selected == "app=manual"
    town.run("scale", "deployment/manual", "--replicas=4")
    town.wait_event("manual", "ReplicasOverwritten")
    town.wait_replicas("manual", 1)


def test_a_foreign_write_is_undone_at_once(town: Town, log: Callable[..., Log]) -> None:
    topic = log()
    topic.commit(0)
    town.deployment("foreign", 1)
    # So seldom that a look at Kafka is not what undoes it.
    slow = {"scaling": {"pollSeconds": 300}, "capacity": {"perReplica": 100, "windowSeconds": 900}}
    town.consumer("foreign", topic, **slow, stall={"afterSeconds": 300})
    wait_for(lambda: town.status("foreign").get("desiredReplicas") == 1, "the first look is over", PATIENCE)
    town.run("scale", "deployment/foreign", "--replicas=3")
    event = town.wait_event("foreign", "ReplicasOverwritten")
    assert "set the replicas to 3, back to 1" in event["message"]
    assert event["type"] == "Warning"
    town.wait_replicas("foreign", 1)


def test_zero_by_hand_is_obeyed_and_told(town: Town, log: Callable[..., Log]) -> None:
    topic = log()
    topic.commit(0)
    town.deployment("zero", 1)
    town.consumer("zero", topic)
    wait_for(lambda: town.status("zero").get("desiredReplicas") == 1, "the first look is over", PATIENCE)
    town.run("scale", "deployment/zero", "--replicas=0")
    told = town.wait("zero", "Ready", "SwitchedOff")
    assert "kubectl scale deployment zero --replicas=1" in told["message"]
    assert steady(lambda: town.replicas("zero") == 0, 3.0)
    town.run("scale", "deployment/zero", "--replicas=2")
    town.wait("zero", "Ready", "Auto")
    assert not town.events("zero", "ReplicasOverwritten")


@pytest.mark.parametrize("kind", AUTOSCALERS)
def test_another_autoscaler_is_refused(town: Town, log: Callable[..., Log], kind: str) -> None:
    name = f"contested-{kind.lower()}"
    topic = log()
    topic.commit(0)
    town.deployment(name, 1)
    version, spec = AUTOSCALERS[kind]
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}
    town.kube.apply(
        {
            "apiVersion": version,
            "kind": kind,
            "metadata": {"name": "rival", "namespace": town.namespace},
            "spec": {"scaleTargetRef": target, **spec},
        }
    )
    town.consumer(name, topic)
    refused = town.wait(name, "Ready", "TargetContested")
    assert f"{kind} rival" in refused["message"]
    topic.write(2_000)
    wait_for(lambda: town.status(name).get("lag") == 8_000, "the lag is shown all the same", PATIENCE)
    assert town.replicas(name) == 1
    town.run("delete", kind.lower(), "rival")
    town.wait(name, "Ready", "Auto")
    town.wait_more(name, 1)


def test_of_two_consumers_of_one_deployment_the_older_one_scales(town: Town, log: Callable[..., Log]) -> None:
    topic = log()
    topic.commit(0)
    town.deployment("shared", 1)
    town.consumer("shared", topic)
    town.wait("shared", "Ready", "Auto")
    # An age is told in whole seconds.
    made = town.get("kcon", "shared")["metadata"]["creationTimestamp"]
    wait_for(lambda: f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}" > made, "the next second", PATIENCE, 0.1)
    town.consumer("younger", topic, targetRef={"name": "shared"})
    assert "older KafkaConsumer shared" in town.wait("younger", "Ready", "TargetTaken")["message"]
    town.run("delete", "kcon", "shared", "--wait=true", "--timeout=30s")
    town.wait("younger", "Ready", "Auto")
    assert town.replicas("shared") == 1


def test_a_missing_target_and_a_missing_cluster_are_told(town: Town, log: Callable[..., Log]) -> None:
    topic = log()
    town.consumer("nowhere", topic)
    assert "no Deployment nowhere" in town.wait("nowhere", "Ready", "TargetMissing")["message"]
    town.change("kcon", "nowhere", {"cluster": "other"})
    assert "no Kafka cluster 'other'" in town.wait("nowhere", "Ready", "ClusterUnknown")["message"]


def test_what_only_looks_touches_nothing(town: Town, log: Callable[..., Log]) -> None:
    topic = log()
    topic.commit(0)
    topic.write(2_000)
    town.deployment("looks", 1)
    town.consumer("looks", topic, mode="DryRun")
    wait_for(lambda: town.status("looks").get("desiredReplicas", 0) > 1, "the decision is shown", PATIENCE)
    assert town.replicas("looks") == 1
    found, row = town.at_once("kcon", "looks")
    assert row.pop("AGE")
    assert row == cells(found)
    assert (row["MODE"], row["READY"], row["REPLICAS"]) == ("DryRun", "True", "1")
    assert int(row["DESIRED"]) > 1
    assert int(row["LAG"]) == 8_000
    town.change("kcon", "looks", {"mode": "Paused"})
    town.wait("looks", "Paused", "Paused")
    assert "desiredReplicas" not in town.status("looks")
    town.run("scale", "deployment/looks", "--replicas=0")
    assert steady(lambda: town.replicas("looks") == 0, 3.0)
    town.run("scale", "deployment/looks", "--replicas=1")
    town.change("kcon", "looks", {"mode": "Auto"})
    town.wait_more("looks", 1)


def test_a_killed_operator_goes_on_where_it_was(town: Town, operator: Operator, log: Callable[..., Log]) -> None:
    topic = log()
    topic.commit(0)
    town.deployment("restart", 1)
    town.consumer("restart", topic, rebalance={"maxPerHour": 1000, "scaleDownAfterSeconds": 60, "cooldownSeconds": 60})
    town.wait("restart", "SLOMet", "Within")
    topic.write(2_000)
    many = town.wait_more("restart", 1)
    wait_for(lambda: town.status("restart").get("lastScale"), "the change is kept", PATIENCE)
    operator.kill()
    before = town.status("restart")
    operator.start()
    looked = [one["lastTransitionTime"] for one in before["conditions"] if one["type"] == "Ready"]
    wait_for(lambda: 'lagscaler_decisions_total{name="restart"' in operator.get("/metrics"), "it decides", PATIENCE)
    # It may go on upwards, as there is more to do than before; it must not begin from one.
    assert steady(lambda: town.replicas("restart") >= many, 4.0)
    assert town.condition("restart", "Ready")["lastTransitionTime"] == looked[0]
    assert town.events("restart", "ReplicasOverwritten") == []
    assert town.events("restart", "ScaledDown") == []


def test_while_nobody_answers_it_waits_and_then_does_what_was_asked_meanwhile(
    town: Town, operator: Operator, admitted: Pass, log: Callable[..., Log]
) -> None:
    topics = {name: log() for name in ("quiet", "hurried", "turned", "halted", "dropped")}
    for name, topic in topics.items():
        topic.commit(0)
        town.deployment(name, 1)
        town.consumer(name, topic)
    for name in topics:
        town.wait(name, "SLOMet", "Within")
    before = {name: generation(town, name) for name in topics}
    pid, said = operator.pid, len(operator.log.read_text())

    def alive(seen: object) -> object:
        assert operator.get("/healthz") == "ok\n"
        return seen

    admitted.way.cut()
    try:
        for name in ("hurried", "halted", "dropped"):
            topics[name].write(2_000)
        town.change("kcon", "turned", {"mode": "Manual", "replicas": 2})
        town.change("kcon", "halted", {"mode": "Paused"})
        town.run("delete", "kcon", "dropped", "--wait=true", "--timeout=30s")
        for name in ("hurried", "halted", "dropped"):
            wanted = f"{name} is to have more"
            wait_for(lambda name=name: alive(wants_more(operator, name)), wanted, PATIENCE)
        for lost in ("/kafkaconsumers?watch=true", "/deployments?watch=true", "the Kubernetes API does not answer"):
            wait_for(lambda lost=lost: alive(lost in operator.log.read_text()[said:]), f"{lost} is told", PATIENCE)
        assert {name: generation(town, name) for name in topics} == before
    finally:
        admitted.way.mend()
    wait_for(lambda: alive(town.replicas("turned") == 2), "what was asked meanwhile is done", PATIENCE)
    wait_for(lambda: alive(town.replicas("hurried") > 1), "what could not be written is", PATIENCE)
    wait_for(lambda: alive('name="dropped"' not in operator.get("/metrics")), "it knows who went", PATIENCE)
    town.wait("turned", "Ready", "Manual")
    town.wait("halted", "Paused", "Paused")
    assert operator.get("/readyz") == "ok\n"
    assert operator.pid == pid
    # Every write of a spec counts: there was one, and none to where nobody asked for any.
    assert generation(town, "turned") == before["turned"] + 1
    for name in ("quiet", "halted", "dropped"):
        assert generation(town, name) == before[name]
    assert not [one for name in topics for one in town.events(name, "ReplicasOverwritten")]


def generation(town: Town, name: str) -> int:
    """Return how often the spec of a Deployment was written."""
    return int(town.get("deployment", name)["metadata"]["generation"])


def wants_more(operator: Operator, name: str) -> bool:
    """Return whether the operator wants more than one replica."""
    return bool(re.search(rf'lagscaler_desired_replicas{{name="{name}",.*}} (?!0|1\.0)', operator.get("/metrics")))


def test_it_ends_when_asked_and_deletion_leaves_the_deployment(
    town: Town, operator: Operator, log: Callable[..., Log]
) -> None:
    topic = log()
    town.deployment("left", 2)
    town.consumer("left", topic, mode="Manual", replicas=2)
    town.wait("left", "Ready", "Manual")
    found = town.get("kcon", "left")["metadata"]
    assert "finalizers" not in found
    assert "ownerReferences" not in town.get("deployment", "left")["metadata"]
    assert operator.end() == 0
    # Nobody is there to take a finalizer off.
    town.run("delete", "kcon", "left", "--wait=true", "--timeout=30s")
    assert town.replicas("left") == 2
    operator.start()
    assert operator.get("/healthz") == "ok\n"
    assert 'lagscaler_kubernetes_requests_total{code="200"' in operator.get("/metrics")


RIGHTS = {
    "in its namespace": ("minimal", "operator-rights.txt", False),
    "in every namespace": ("cluster-wide", "operator-rights-cluster-wide.txt", True),
}


@pytest.mark.parametrize("where", RIGHTS)
def test_its_rights_are_the_least(town: Town, where: str) -> None:
    values, golden, everywhere = RIGHTS[where]
    account = f"system:serviceaccount:{town.namespace}:{values}-lagscaler"
    made = admit(town.kube, town.namespace, values, "--values", str(CHART / "ci" / f"{values}-values.yaml"))
    try:
        # The API server takes a moment to learn of them.
        found = wait_for(lambda: rights(town.kube, account, town.namespace), "it has rights", PATIENCE)
        assert found == golden_rights(golden)
        assert rights(town.kube, account, "default") == (golden_rights(golden) if everywhere else {})
    finally:
        for item in made:
            if item["kind"].startswith("Cluster"):
                town.kube.run("delete", item["kind"].lower(), item["metadata"]["name"])


REFUSED = [
    ({"topics": []}, "spec.topics"),
    ({"topics": ["a", "a"]}, "Duplicate value"),
    ({"scaling": {"minReplicas": 3, "maxReplicas": 2}}, "minReplicas must not be more than maxReplicas"),
    ({"scaling": {"pollSeconds": 0.5}}, "spec.scaling.pollSeconds"),
    ({"scaling": {"pollSeconds": 60}, "stall": {"afterSeconds": 30}}, "stall.afterSeconds must not be less"),
    ({"capacity": {"windowSeconds": 60}}, "stall.afterSeconds must not be more"),
    ({"capacity": {"windowSeconds": 10}, "scaling": {"pollSeconds": 10}}, "at least three times"),
    ({"bridge": "main"}, "bridge goes with service"),
    ({"mode": "Off"}, "Unsupported value"),
    ({"mode": "Manual"}, "say how many replicas"),
    ({"targetRef": {"kind": "StatefulSet", "name": "x"}}, "Unsupported value"),
    ({"slo": {"slack": 2}}, "spec.slo.slack"),
]


@pytest.mark.parametrize(("spec", "words"), REFUSED, ids=[words for _, words in REFUSED])
def test_the_api_server_refuses_what_makes_no_sense(town: Town, spec: dict[str, object], words: str) -> None:
    body = {
        "apiVersion": "taskbridge.dev/v1alpha1",
        "kind": "KafkaConsumer",
        "metadata": {"name": "refused"},
        "spec": {"targetRef": {"name": "x"}, "group": "g", "topics": ["t"], **spec},
    }
    said = town.kube.run(
        "create", "--namespace", town.namespace, "--filename", "-", stdin=json.dumps(body), check=False
    )
    assert words in said
