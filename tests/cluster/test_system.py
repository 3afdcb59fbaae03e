"""
The charts on a real cluster: installed, used, moved, drained, upgraded, rolled back, uninstalled.

One story: the tests follow one another in this order.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.kube import ROOT, is_ready, wait_for
from tests.cluster.operating import define
from tests.cluster.previous import previous_chart
from tests.cluster.system import DJANGO, DRAINED, KEPT, MOVED, SERVICES, ZONE, Load, System, ran_by_side

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

ROLLED = ("web", "relay", "celeryWorker", "kafkaWorker")
"""Values of the kinds of pods that serve people, and execute and pass on tasks."""

OPTIONAL = {"Cutover", "HorizontalPodAutoscaler", "Ingress", "KafkaConsumer", "PodMonitor", "PrometheusRule"}
"""Kinds of what charts/shop makes only where it is asked to, or where the cluster knows them."""


class Customer:
    """A pod that a policy lets through to the shop's web pods and to nothing else."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._load: Load | None = None

    def begin(self) -> None:
        """Have it order, and look at what it has ordered, until `end`."""
        script = (Path(__file__).parent / "pods" / "customer.py").read_text()
        command = ("python", "-c", script, "http://shop-web")
        self._load = Load(self._system.kube.start("exec", "--stdin", "--namespace", "shop", "customer", "--", *command))

    def assert_goes_on(self) -> None:
        """Fail if it has ended by itself."""
        assert self._load is not None
        self._load.assert_goes_on()

    def end(self) -> None:
        """Have it end: each of its requests was answered, and each of its orders came to its end."""
        assert self._load is not None
        said = json.loads(self._load.end())
        assert said["failed"] == []
        assert said["placed"]
        self._system.settled()
        ids = ", ".join(f"'{one}'" for one in said["placed"])
        states = self._system.sql(f"SELECT state FROM orders_order WHERE id IN ({ids})").split()  # noqa: S608
        assert len(states) == len(said["placed"])
        assert set(states) <= {"confirmed", "rejected"}


@pytest.fixture
def customer(system: System) -> Iterator[Customer]:
    """A customer in the shop's own test pod, which here stays; not on the node that is drained."""
    hooks = yaml.safe_load_all(system.kube.helm("get", "hooks", "shop", "--namespace", "shop"))
    [pod] = [one for one in hooks if one and one["kind"] == "Pod"]
    pod["metadata"] = {"name": "customer", "namespace": "shop", "labels": pod["metadata"]["labels"]}
    pod["spec"] |= {"nodeSelector": {ZONE: KEPT}, "terminationGracePeriodSeconds": 0}
    pod["spec"]["containers"][0]["command"] = ["sleep", "infinity"]
    system.kube.apply(pod)
    try:
        system.kube.run("wait", "--namespace", "shop", "pod/customer", "--for=condition=Ready", "--timeout=120s")
        yield Customer(system)
    finally:
        system.kube.run("delete", "pod", "customer", "--namespace", "shop")


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


def test_a_pod_of_the_shop_has_no_compiler(system: System) -> None:
    script = "for one in gcc cc g++ c++ clang ld make python; do command -v $one; done; true"
    said = system.kube.execute("shop", "deployment/shop-web", "sh", "-c", script)
    assert [Path(line).name for line in said.split()] == ["python"]


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
    # The web pods dispatch to Kafka, too: so far only the pod for commands has.
    before, detours = system.settled(), _detours(system)
    assert "Succeeded" in system.kube.helm("test", "shop", "--namespace", "shop", "--timeout", "5m")
    after = system.settled()
    dispatched = "shop.orders.tasks.validate_order"
    assert ran_by_side(after, dispatched) - ran_by_side(before, dispatched) == {"kafka": 1}
    assert set(ran_by_side(after, "shop.orders.") - ran_by_side(before, "shop.orders.")) == {"kafka"}
    assert _detours(system) == detours, "the relay has sent what they could not"


def test_a_new_password_needs_no_restart(system: System) -> None:
    """The worker's user gets another one under load; connections that are cut are opened with it."""
    [before] = system.kube.pods("shop", "app.kubernetes.io/component=worker-orders")
    name = before["metadata"]["name"]
    mounted = ("cat", "/etc/taskbridge/kafka/password")
    old = system.kube.execute("shop", name, *mounted)
    load = system.start_traffic(5)
    system.rotate("shop-worker-orders")
    # A kubelet looks at a pod that changes at once, and at others once a minute.
    system.kube.run("annotate", "pod", name, "--namespace", "shop", "example.com/rotated=yes")
    wait_for(lambda: system.kube.execute("shop", name, *mounted) != old, "the pod has the new password", 240)
    load.end()
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


def test_a_drain_under_load_lets_a_task_end_and_loses_nothing(system: System, customer: Customer) -> None:
    """A task is in the middle of its work on the node that is drained: it ends there, and people notice nothing."""
    drained = system.node(DRAINED)
    _move(system, "cli", system.node(KEPT))
    for component in ("worker-orders", "celery-orders", "web"):
        _move(system, component, drained)
    command = ("python", "-c", f"{DJANGO}{LONG_TASK}")
    holding = system.kube.start("exec", "--stdin", "--namespace", "shop", system.cli(), "--", *command)
    assert holding.stdin is not None
    assert holding.stdout is not None
    task = holding.stdout.readline().strip()
    runs = f"SELECT count(*), count(finished_at), max(state) FROM journal_run WHERE task_id = '{task}'"  # noqa: S608
    wait_for(lambda: system.sql(runs) == "1|0|", f"task {task} runs")
    load = system.start_traffic(3)
    customer.begin()
    system.kube.run("cordon", drained)
    drain = system.kube.start("drain", drained, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=240s")
    left = ("pods", "shop", "--selector", "app.kubernetes.io/component=worker-orders")
    wait_for(
        lambda: [one for one in system.kube.get(*left)["items"] if "deletionTimestamp" in one["metadata"]],
        "the worker was told to end",
    )
    assert system.sql(runs) == "1|0|"
    holding.communicate("go on\n", timeout=60)
    said, _ = drain.communicate(timeout=260)
    assert drain.returncode == 0, said
    assert not [pod for pod in system.kube.pods("shop") if pod["spec"].get("nodeName") == drained]
    assert system.sql(runs) == "1|1|SUCCESS"
    load.end()
    customer.end()
    assert system.sql(runs) == "1|1|SUCCESS"
    system.kube.run("uncordon", drained)


def test_an_upgrade_and_a_rollback_under_load_lose_nothing_and_move_neither_replicas_nor_stage(
    system: System, customer: Customer, tmp_path: Path
) -> None:
    """From the version before to this one and back; all pods of the release roll, so the load comes from elsewhere."""
    before = previous_chart("shop", ROOT, tmp_path)
    assert before is not None, "the version before is not in this checkout: fetch its whole history"
    values = _everything(system)
    # 0.1.0 does not know `postgresql.clients`.
    del values["networkPolicy"]
    system.install("shop", str(before), "shop", values)
    older = system.revision("shop")
    system.kube.run("scale", "--namespace", "shop", "deployment/shop-worker-orders", "--replicas=2")
    _wait_for_replicas(system, "shop-worker-orders", 2)
    stages = _stages(system)
    customer.begin()
    first = _rolled(system)
    assert len(first) > len(ROLLED)
    values = _everything(system)
    for name in ROLLED:
        values[name]["podAnnotations"] = {"example.com/changed": "yes"}
    system.install("shop", "shop", "shop", values)
    wait_for(lambda: not first & _rolled(system), "the pods from before the upgrade have ended")
    customer.assert_goes_on()
    _wait_for_replicas(system, "shop-worker-orders", 2)
    assert _stages(system) == stages
    second = _rolled(system)
    system.kube.helm("rollback", "shop", str(older), "--namespace", "shop", "--wait", "--timeout", "8m")
    release = json.loads(system.kube.helm("get", "metadata", "shop", "--namespace", "shop", "--output", "json"))
    assert release["version"] == yaml.safe_load((before / "Chart.yaml").read_text())["version"]
    wait_for(lambda: not second & _rolled(system), "the pods from before the rollback have ended")
    customer.end()
    _wait_for_replicas(system, "shop-worker-orders", 2)
    assert _stages(system) == stages


def test_an_uninstall_leaves_only_what_the_notes_name(system: System) -> None:
    system.install("shop", "shop", "shop", _everything(system), "--timeout", "4m")
    assert {kind for kind, _ in _parts(system)} >= OPTIONAL
    notes = system.kube.helm("get", "notes", "shop", "--namespace", "shop").splitlines()
    named = [words for line in notes if (words := line.split())[:2] == ["kubectl", "delete"]]
    assert named
    system.kube.helm("uninstall", "shop", "--namespace", "shop", "--wait", "--timeout", "4m")
    for _, *words in named:
        system.kube.run(*words)
    wait_for(lambda: not _parts(system), "nothing is left that the notes do not name")


def _everything(system: System) -> dict[str, Any]:
    """Return the values of a shop that has all that the chart can make; nobody is there to look after some of it."""
    define(system.kube)
    system.secret("shop", "bridge-tokens", {"operator": secrets.token_urlsafe(40)})
    values = system.values()
    values["kafkaWorker"]["autoscaling"] = {"enabled": True}
    values["operator"] = {"enabled": True}
    values["web"]["bridgeTokensSecret"] = "bridge-tokens"
    values["web"]["hpa"] = {"enabled": True, "minReplicas": 2, "maxReplicas": 2}
    values["web"]["ingress"] = {"enabled": True, "hosts": ["shop.example.com"]}
    return values


def _parts(system: System) -> set[tuple[str, str]]:
    """Return kind and name of what there is of the release."""
    kinds = "pods,deployments,statefulsets,jobs,services,configmaps,secrets,serviceaccounts,networkpolicies,pvc,pdb"
    kinds += ",hpa,ingresses,podmonitors,prometheusrules,kafkaconsumers,cutovers"
    found = system.kube.get(kinds, "shop", "--selector", "app.kubernetes.io/instance=shop")["items"]
    return {(one["kind"], one["metadata"]["name"]) for one in found}


def _rolled(system: System) -> set[str]:
    """Return the pods that serve people, and execute and pass on tasks, by their unique names; also those that end."""
    roles = ("--selector", "taskbridge.dev/role in (web, relay, celery, worker)")
    return {str(pod["metadata"]["uid"]) for pod in system.kube.get("pods", "shop", *roles)["items"]}


def _log(system: System, pod: str) -> str:
    return system.kube.run("logs", "--namespace", "shop", pod, "--container", "worker")


def _detours(system: System) -> int:
    """Return how often the web pods have said that a task does not go straight to Kafka."""
    selected = ("--selector", "app.kubernetes.io/component=web", "--container", "web", "--tail=-1")
    return system.kube.run("logs", "--namespace", "shop", *selected).count("goes to the outbox")


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
    """Have a pod of a Deployment on the node."""
    selector = f"app.kubernetes.io/component={component}"
    pods = system.kube.pods("shop", selector)
    if node in {pod["spec"]["nodeName"] for pod in pods}:
        return
    system.kube.run("cordon", pods[0]["spec"]["nodeName"])
    system.kube.run("delete", "pod", "--namespace", "shop", pods[0]["metadata"]["name"], timeout=240)
    system.kube.rolled_out("shop", f"deployment/shop-{component}")
    system.kube.run("uncordon", pods[0]["spec"]["nodeName"])
    assert node in {pod["spec"]["nodeName"] for pod in system.kube.pods("shop", selector)}


def _wait_for_replicas(system: System, deployment: str, count: int) -> None:
    def ready() -> bool:
        status = system.kube.get("deployment", "shop", deployment)
        assert status["spec"]["replicas"] == count
        return bool(status["status"].get("readyReplicas") == count)

    wait_for(ready, f"{count} pods of {deployment} are ready")
