"""
The charts on a real cluster: installed, used, moved, drained, upgraded, rolled back, uninstalled.

One story: the tests follow one another in this order.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.kube import Kube, wait_for
from tests.cluster.system import SERVICES, System

pytestmark = pytest.mark.timeout(1500)

MOVED = ("orders", "notifications")
"""Services that have Kafka workers in this small installation."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("values")


@pytest.fixture(scope="module")
def kafka(kube: Kube, images: dict[str, str]) -> tuple[System, dict[str, dict[str, str]]]:
    """Kafka in the cluster, and what the stand-in did."""
    system = System(kube, images)
    system.prepare()
    system.start_kafka()
    return system, system.stand_in(system.render_kafka())


@pytest.fixture(scope="module")
def system(kafka: tuple[System, Any], folder: Path) -> System:
    """Both charts, installed."""
    one = kafka[0]
    one.install(
        "kafka", "kafka", "kafka", {"mode": "external", "external": {"bootstrapServers": KAFKA_SERVERS}}, folder
    )
    one.install("shop", "shop", "shop", one.values(), folder)
    return one


KAFKA_SERVERS = "kafka.kafka.svc.cluster.local:9092"


def test_the_topics_and_users_of_the_strimzi_render_are_made(kafka: tuple[System, dict[str, dict[str, str]]]) -> None:
    done = kafka[1]
    assert set(done["topics"].values()) == {"created"}
    assert {f"shop.{name}" for name in SERVICES} <= set(done["topics"])
    assert {"shop-web", "shop-celery", "shop-relay", "shop-cli", "shop-worker-orders"} <= set(done["users"])


def test_all_pods_are_ready_under_restricted(system: System) -> None:
    namespace = system.kube.get("namespace", "shop", "shop")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    pods = [pod for pod in system.kube.pods("shop") if pod["status"]["phase"] != "Succeeded"]
    assert len(pods) > 8
    for pod in pods:
        ready = [one["status"] for one in pod["status"]["conditions"] if one["type"] == "Ready"]
        assert ready == ["True"], pod["metadata"]["name"]
    assert system.kube.get("networkpolicies", "shop")["items"]


def test_a_pod_that_is_not_restricted_is_refused(system: System) -> None:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "loose", "namespace": "shop"},
        "spec": {"containers": [{"name": "loose", "image": system.reference("shop")}]},
    }
    said = system.kube.run("apply", "--filename", "-", stdin=json.dumps(pod), check=False)
    assert "violates PodSecurity" in said


def test_a_pod_that_no_policy_lets_through_reaches_nothing(system: System) -> None:
    script = (
        "import socket, sys\n"
        "servers = {'shop-postgresql.shop': 5432, 'shop-redis.shop': 6379, 'kafka.kafka.svc.cluster.local': 9092}\n"
        "for host, port in servers.items():\n"
        "    try: socket.create_connection((host, port), 3); print('reached', host)\n"
        "    except OSError: print('refused', host)\n"
    )
    # The web pods may, which shows that the question is asked rightly.
    assert system.kube.execute("shop", "deployment/shop-web", "python", "-c", script).count("reached") == 3
    assert system.kube.execute("kafka", "standin", "python", "-c", script).split() == [
        "refused", "shop-postgresql.shop", "refused", "shop-redis.shop", "reached", "kafka.kafka.svc.cluster.local",
    ]  # fmt: skip


def test_an_order_over_http_is_executed_by_celery(system: System) -> None:
    said = system.kube.helm("test", "shop", "--namespace", "shop", "--logs", "--timeout", "5m")
    assert "Succeeded" in said
    assert _sides(system) == {"celery"}


def test_the_stage_moves_and_kafka_executes(system: System) -> None:
    for service in MOVED:
        system.bridge("cutover", service, "mirror")
        system.bridge("cutover", service, "live", "--percent", "100", "--override", "--reason", "a trial")
    before = _account(system)
    system.manage("traffic", "--rate", "5", "--seconds", "6", "--json")
    after = _settled(system)
    assert after["ok"], after
    ran = _ran_by_side(after) - _ran_by_side(before)
    assert ran["kafka"] > 10
    assert ran["celery"] > 0, "what was not moved stays where it was"


def test_a_drain_under_load_loses_nothing(system: System) -> None:
    load = system.kube.start(
        "exec", "--namespace", "shop", _cli_on_node1(system), "--", "python", "manage.py", "traffic", "--rate", "5",
        "--seconds", "40", "--json",
    )  # fmt: skip
    system.kube.run("cordon", "node2")
    system.kube.run("drain", "node2", "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=240s", timeout=260)
    assert not [pod for pod in system.kube.pods("shop") if pod["spec"].get("nodeName") == "node2"]
    said, _ = load.communicate(timeout=240)
    assert load.returncode == 0, said
    after = _settled(system)
    assert after["ok"], after
    system.kube.run("uncordon", "node2")


def test_an_upgrade_and_a_rollback_move_neither_replicas_nor_stage(system: System, folder: Path) -> None:
    values = system.values()
    values["kafkaWorker"]["autoscaling"] = {"enabled": True}
    system.install("shop", "shop", "shop", values, folder)
    system.kube.run("scale", "--namespace", "shop", "deployment/shop-worker-orders", "--replicas=2")
    _wait_for_replicas(system, "shop-worker-orders", 2)
    stages = system.bridge("status", *MOVED, "--json")
    load = system.kube.start(
        "exec", "--namespace", "shop", "deployment/shop-cli", "--", "python", "manage.py", "traffic", "--rate", "3",
        "--seconds", "20", "--json",
    )  # fmt: skip
    values["relay"]["podAnnotations"] = {"example.com/changed": "yes"}
    values["web"]["podAnnotations"] = {"example.com/changed": "yes"}
    values["kafkaWorker"]["podAnnotations"] = {"example.com/changed": "yes"}
    system.install("shop", "shop", "shop", values, folder)
    said, _ = load.communicate(timeout=240)
    assert load.returncode == 0, said
    _wait_for_replicas(system, "shop-worker-orders", 2)
    assert _stages(system.bridge("status", *MOVED, "--json")) == _stages(stages)
    system.kube.helm("rollback", "shop", "--namespace", "shop", "--wait", "--timeout", "8m")
    _wait_for_replicas(system, "shop-worker-orders", 2)
    assert _stages(system.bridge("status", *MOVED, "--json")) == _stages(stages)
    after = _settled(system)
    assert after["ok"], after


def test_an_uninstall_leaves_only_what_the_notes_name(system: System) -> None:
    notes = system.kube.helm("get", "notes", "shop", "--namespace", "shop")
    system.kube.helm("uninstall", "shop", "--namespace", "shop", "--wait", "--timeout", "4m")
    kinds = "pods,deployments,statefulsets,jobs,services,configmaps,secrets,serviceaccounts,networkpolicies,pvc,pdb"

    def unnamed() -> list[str]:
        return [
            f"{one['kind'].lower()}/{one['metadata']['name']}"
            for one in system.kube.get(kinds, "shop")["items"]
            if one["metadata"].get("labels", {}).get("app.kubernetes.io/instance") == "shop"
            and one["metadata"]["name"] not in notes
        ]

    wait_for(lambda: not unnamed(), "nothing is left that the notes do not name")


def _account(system: System, wait: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        system.kube.execute(
            "shop", "deployment/shop-cli", "sh", "-c",
            f"python manage.py journal --json {f'--wait {wait}' if wait else ''} || true",
        )
    )  # fmt: skip
    return found


def _settled(system: System) -> dict[str, Any]:
    return _account(system, wait=90)


def _ran_by_side(account: dict[str, Any]) -> Counter[str]:
    found: Counter[str] = Counter()
    for line in account["lines"]:
        found[line["side"]] += line["ran_once"]
    return found


def _sides(system: System) -> set[str]:
    return {side for side, count in _ran_by_side(_settled(system)).items() if count}


def _stages(status: str) -> list[tuple[str, str, float]]:
    return [(one["service"], one["stage"], one["percent"]) for one in json.loads(status)["services"]]


def _cli_on_node1(system: System) -> str:
    """Return the pod for commands, moved to the node that stays."""
    system.kube.run("cordon", "node2")
    for pod in system.kube.pods("shop", "app.kubernetes.io/component=cli"):
        if pod["spec"]["nodeName"] == "node2":
            system.kube.run("delete", "pod", "--namespace", "shop", pod["metadata"]["name"])
    system.kube.run("rollout", "status", "--namespace", "shop", "deployment/shop-cli", "--timeout=120s")
    system.kube.run("uncordon", "node2")
    [one] = system.kube.pods("shop", "app.kubernetes.io/component=cli")
    return str(one["metadata"]["name"])


def _wait_for_replicas(system: System, deployment: str, count: int) -> None:
    def ready() -> bool:
        status = system.kube.get("deployment", "shop", deployment)
        assert status["spec"]["replicas"] == count
        return bool(status["status"].get("readyReplicas") == count)

    wait_for(ready, f"{count} pods of {deployment} are ready")
