"""
The charts on a real cluster: installed, used, moved, drained, upgraded, rolled back, uninstalled.

One story: the tests follow one another in this order.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.kube import ROOT, is_ready, wait_for
from tests.cluster.previous import previous_chart
from tests.cluster.system import DJANGO, MOVED, SERVICES, System, ran_by_side

pytestmark = pytest.mark.timeout(1500)

LONG_TASK = """
import sys
from django.db import transaction
from shop.orders import services, tasks
order, _ = services.create_order("C000001", [services.Wanted("P00001", 1)], "a long task")
with transaction.atomic():
    services.locked(order.pk)
    print(tasks.follow_up_order.delay(str(order.pk)).id, flush=True)
    sys.stdin.readline()
"""
"""Dispatches a task that needs the row of an order, and holds that row until it is told not to."""


def test_the_topics_and_users_of_the_strimzi_render_are_made(system: System) -> None:
    done = system.stood_in
    assert set(done["topics"].values()) <= {"created", "unchanged"}
    assert {f"shop.{name}" for name in SERVICES} <= set(done["topics"])
    assert {"shop-web", "shop-celery", "shop-relay", "shop-cli", "shop-worker-orders"} <= set(done["users"])


def test_all_pods_are_ready_under_restricted(system: System) -> None:
    namespace = system.kube.get("namespace", "shop", "shop")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    found = system.kube.pods("shop", "!batch.kubernetes.io/job-name")
    pods = [pod for pod in found if pod["status"]["phase"] != "Succeeded"]
    assert len(pods) > 8
    assert [pod["metadata"]["name"] for pod in pods if not is_ready(pod)] == []
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
    assert {system.stages()[name] for name in MOVED} == {"off"}
    before = ran_by_side(system.settled())
    said = system.kube.helm("test", "shop", "--namespace", "shop", "--logs", "--timeout", "5m")
    assert "Succeeded" in said
    assert set(ran_by_side(system.settled()) - before) == {"celery"}


def test_the_stage_moves_and_kafka_executes(system: System) -> None:
    system.go_live()
    before = ran_by_side(system.settled())
    system.traffic(5, 6)
    ran = ran_by_side(system.settled()) - before
    assert ran["kafka"] > 10
    assert ran["celery"] > 0, "what was not moved stays where it was"


def test_a_new_password_needs_no_restart(system: System) -> None:
    """The worker's user gets another one under load; connections that are cut are opened with it."""
    [before] = system.kube.pods("shop", "app.kubernetes.io/component=worker-orders")
    name = before["metadata"]["name"]
    mounted = ("cat", "/etc/taskbridge/kafka/password")
    old = system.kube.execute("shop", name, *mounted)
    load = system.start_traffic(5, 15)
    system.rotate("shop-worker-orders")
    # A kubelet looks at a pod that changes at once, and at others once a minute.
    system.kube.run("annotate", "pod", name, "--namespace", "shop", "example.com/rotated=yes")
    wait_for(lambda: system.kube.execute("shop", name, *mounted) != old, "the pod has the new password", 240)
    _finish(load)
    system.settled()
    changed = "password of Kafka user shop-worker-orders has changed"
    wait_for(lambda: changed in _log(system, name), "the worker has read its new password")
    # The container goes, and with it every connection; the pod and what Kafka has written stay.
    restarts = _restarts(system, "kafka", "kafka-0")
    system.kube.execute("kafka", "kafka-0", "sh", "-c", "kill 1", check=False)
    wait_for(lambda: _restarts(system, "kafka", "kafka-0") > restarts, "Kafka has ended, and begun again")
    wait_for(lambda: is_ready(system.kube.get("pod", "kafka", "kafka-0")), "Kafka is back")
    ran = system.settled()
    wait_for(lambda: _kafka_executes_orders(system, ran), "the worker executes again", 240)
    [after] = system.kube.pods("shop", "app.kubernetes.io/component=worker-orders")
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert _restarts(system, "shop", name) == 0


def test_a_drain_under_load_lets_a_task_end_and_loses_nothing(system: System) -> None:
    """A task is in the middle of its work on node2 when that is drained: it ends there, and runs once."""
    _move(system, "cli", "node1")
    _move(system, "worker-orders", "node2")
    command = ("python", "-c", f"{DJANGO}{LONG_TASK}")
    holding = system.kube.start("exec", "--stdin", "--namespace", "shop", system.cli(), "--", *command)
    assert holding.stdin is not None
    assert holding.stdout is not None
    task = holding.stdout.readline().strip()
    runs = f"SELECT count(*), count(finished_at), max(state) FROM journal_run WHERE task_id = '{task}'"  # noqa: S608
    wait_for(lambda: system.sql(runs) == "1|0|", f"task {task} runs")
    load = system.start_traffic(5, 25)
    system.kube.run("cordon", "node2")
    drain = system.kube.start("drain", "node2", "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=240s")
    left = ("pods", "shop", "--selector", "app.kubernetes.io/component=worker-orders")
    wait_for(
        lambda: [one for one in system.kube.get(*left)["items"] if "deletionTimestamp" in one["metadata"]],
        "the worker was told to end",
    )
    assert system.sql(runs) == "1|0|"
    holding.communicate("go on\n", timeout=60)
    said, _ = drain.communicate(timeout=260)
    assert drain.returncode == 0, said
    assert not [pod for pod in system.kube.pods("shop") if pod["spec"].get("nodeName") == "node2"]
    assert system.sql(runs) == "1|1|SUCCESS"
    _finish(load)
    system.settled()
    assert system.sql(runs) == "1|1|SUCCESS"
    system.kube.run("uncordon", "node2")


def test_an_upgrade_and_a_rollback_move_neither_replicas_nor_stage(system: System) -> None:
    values = system.values()
    values["kafkaWorker"]["autoscaling"] = {"enabled": True}
    system.install("shop", "shop", "shop", values)
    system.kube.run("scale", "--namespace", "shop", "deployment/shop-worker-orders", "--replicas=2")
    _wait_for_replicas(system, "shop-worker-orders", 2)
    stages = _stages(system)
    load = system.start_traffic(3, 20)
    values["relay"]["podAnnotations"] = {"example.com/changed": "yes"}
    values["web"]["podAnnotations"] = {"example.com/changed": "yes"}
    values["kafkaWorker"]["podAnnotations"] = {"example.com/changed": "yes"}
    system.install("shop", "shop", "shop", values)
    _finish(load)
    _wait_for_replicas(system, "shop-worker-orders", 2)
    assert _stages(system) == stages
    system.kube.helm("rollback", "shop", "--namespace", "shop", "--wait", "--timeout", "8m")
    _wait_for_replicas(system, "shop-worker-orders", 2)
    assert _stages(system) == stages
    system.settled()


def test_an_upgrade_from_the_version_before_moves_no_stage(system: System, tmp_path: Path) -> None:
    before = previous_chart("shop", ROOT, tmp_path)
    assert before is not None, "the version before is not in this checkout: fetch its whole history"
    stages = _stages(system)
    values = system.values()
    # 0.1.0 does not know `postgresql.clients`.
    del values["networkPolicy"]
    system.install("shop", str(before), "shop", values)
    system.install("shop", "shop", "shop", system.values())
    assert _stages(system) == stages
    system.settled()


def test_an_uninstall_leaves_only_what_the_notes_name(system: System) -> None:
    notes = system.kube.helm("get", "notes", "shop", "--namespace", "shop").splitlines()
    named = [words for line in notes if (words := line.split())[:2] == ["kubectl", "delete"]]
    assert named
    system.kube.helm("uninstall", "shop", "--namespace", "shop", "--wait", "--timeout", "4m")
    for _, *words in named:
        system.kube.run(*words)
    kinds = "pods,deployments,statefulsets,jobs,services,configmaps,secrets,serviceaccounts,networkpolicies,pvc,pdb"

    def left() -> list[str]:
        found = system.kube.get(kinds, "shop", "--selector", "app.kubernetes.io/instance=shop")["items"]
        return [f"{one['kind'].lower()}/{one['metadata']['name']}" for one in found]

    wait_for(lambda: not left(), "nothing is left that the notes do not name")


def _finish(load: subprocess.Popen[str]) -> None:
    said, _ = load.communicate(timeout=240)
    assert load.returncode == 0, said


def _log(system: System, pod: str) -> str:
    return system.kube.run("logs", "--namespace", "shop", pod, "--container", "worker")


def _kafka_executes_orders(system: System, before: dict[str, Any]) -> bool:
    system.traffic(5, 1)
    return (ran_by_side(system.settled(), "shop.orders.") - ran_by_side(before, "shop.orders."))["kafka"] > 0


def _restarts(system: System, namespace: str, pod: str) -> int:
    status = system.kube.get("pod", namespace, pod)["status"]
    return sum(int(one["restartCount"]) for one in status["containerStatuses"])


def _stages(system: System) -> list[tuple[str, str, float]]:
    said = json.loads(system.bridge("status", *MOVED, "--json"))
    return [(one["service"], one["stage"], one["percent"]) for one in said["services"]]


def _move(system: System, component: str, node: str) -> None:
    """Have the only pod of a Deployment on the node."""
    selector = f"app.kubernetes.io/component={component}"
    [pod] = system.kube.pods("shop", selector)
    if pod["spec"]["nodeName"] == node:
        return
    system.kube.run("cordon", pod["spec"]["nodeName"])
    system.kube.run("delete", "pod", "--namespace", "shop", pod["metadata"]["name"], timeout=240)
    system.kube.rolled_out("shop", f"deployment/shop-{component}")
    system.kube.run("uncordon", pod["spec"]["nodeName"])
    [moved] = system.kube.pods("shop", selector)
    assert moved["spec"]["nodeName"] == node


def _wait_for_replicas(system: System, deployment: str, count: int) -> None:
    def ready() -> bool:
        status = system.kube.get("deployment", "shop", deployment)
        assert status["spec"]["replicas"] == count
        return bool(status["status"].get("readyReplicas") == count)

    wait_for(ready, f"{count} pods of {deployment} are ready")
