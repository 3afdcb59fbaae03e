"""The operator against a real API server and a real Kafka: KafkaConsumers, as `kubectl` shows and moves them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from lagscaler.policy.model import Reason
from tests.cluster.kube import wait_for
from tests.cluster.operating import PATIENCE, Log, Members, Operator, Town, steady

pytestmark = pytest.mark.services


@pytest.fixture(scope="module")
def operator(
    town: Town, kubeconfig_path: Path, kafka_bootstrap: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Operator]:
    """The operator, at work."""
    served = {"namespaces": [town.namespace]}
    settings = {"clusters": {"main": {"bootstrapServers": kafka_bootstrap, **served}}, **served}
    one = Operator(tmp_path_factory.mktemp("operator"), kubeconfig_path, settings)
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


def test_another_autoscaler_is_refused(town: Town, log: Callable[..., Log]) -> None:
    topic = log()
    topic.commit(0)
    town.deployment("contested", 1)
    town.run("autoscale", "deployment/contested", "--min=1", "--max=3")
    town.consumer("contested", topic)
    refused = town.wait("contested", "Ready", "TargetContested")
    assert "HorizontalPodAutoscaler contested" in refused["message"]
    topic.write(2_000)
    wait_for(lambda: town.status("contested").get("lag") == 8_000, "the lag is shown all the same", PATIENCE)
    assert town.replicas("contested") == 1
    town.run("delete", "hpa", "contested")
    town.wait("contested", "Ready", "Auto")
    town.wait_more("contested", 1)


def test_of_two_consumers_of_one_deployment_the_older_one_scales(town: Town, log: Callable[..., Log]) -> None:
    topic = log()
    topic.commit(0)
    town.deployment("shared", 1)
    town.consumer("shared", topic)
    town.wait("shared", "Ready", "Auto")
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
