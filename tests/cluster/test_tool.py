"""The local cluster is a real one: pods, DNS, services, policies, volumes, drains; and `down` leaves nothing."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from cluster import cache, gotools, report
from cluster.addresses import NODES
from cluster.errors import ClusterError
from cluster.lifecycle import Cluster, image_of
from cluster.supervisor import wait_until
from tests.cluster.manifests import deployment, namespace, network_policy, pod, service

pytestmark = pytest.mark.skipif(
    "TASKBRIDGE_TEST_KUBECONFIG" in os.environ,
    reason="this is about clusters of its own, which need Linux and root: unset TASKBRIDGE_TEST_KUBECONFIG",
)

PATIENCE = 60.0

Clusters = Callable[[Path], Cluster]


class Shell:
    """kubectl against one cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._program = str(gotools.program("kubectl", print))

    def run(self, *arguments: str, given: Any = None) -> subprocess.CompletedProcess[str]:
        command = [self._program, f"--kubeconfig={self.cluster.layout.kubeconfig}", *arguments]
        text = None if given is None else json.dumps(given)
        return subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=180)

    def __call__(self, *arguments: str, given: Any = None) -> str:
        done = self.run(*arguments, given=given)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def get(self, *arguments: str) -> Any:
        return json.loads(self("get", *arguments, "-o", "json"))

    def apply(self, *objects: dict[str, Any]) -> None:
        self("apply", "-f", "-", given={"apiVersion": "v1", "kind": "List", "items": list(objects)})

    def dials(self, namespace: str, pod: str, target: str) -> bool:
        return self.run("exec", "-n", namespace, pod, "--", "/probe", "dial", target).returncode == 0


@contextmanager
def taken_down() -> Iterator[Clusters]:
    """Yield a function that makes the cluster of a folder; what is up in the end, of all of them, is taken down."""
    with ExitStack() as ends:

        def make(state_dir: Path) -> Cluster:
            one = Cluster(state_dir, print)
            ends.callback(one.down)
            return one

        yield make


@pytest.fixture
def clusters() -> Iterator[Clusters]:
    with taken_down() as make:
        yield make


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with taken_down() as make:
        one = make(tmp_path_factory.mktemp("cluster") / "state")
        one.up()
        one.load(image_of("probe", print))
        yield one


@pytest.fixture(scope="module")
def kubectl(cluster: Cluster) -> Shell:
    return Shell(cluster)


@pytest.fixture(scope="module")
def town(kubectl: Shell) -> str:
    """A namespace with a server on both nodes behind a service, and a client on each node."""
    kubectl.apply(
        namespace("town"),
        deployment("town", "server", 2),
        service("town", "server"),
        *(pod("town", f"client-{node}", nodeSelector={"kubernetes.io/hostname": node}) for node in NODES),
    )
    kubectl("rollout", "status", "-n", "town", "deployment/server", f"--timeout={PATIENCE:.0f}s")
    kubectl("wait", "-n", "town", "pods", "--all", "--for=condition=Ready", f"--timeout={PATIENCE:.0f}s")
    return "town"


def test_two_nodes_of_two_zones_are_ready(cluster: Cluster, kubectl: Shell) -> None:
    nodes = {node["metadata"]["name"]: node["metadata"]["labels"] for node in kubectl.get("nodes")["items"]}
    zones = {name: labels["topology.kubernetes.io/zone"] for name, labels in nodes.items()}
    assert zones == {"node1": "zone-1", "node2": "zone-2"}
    command = [sys.executable, "-m", "cluster", "status", "--json", "--state-dir", str(cluster.layout.root)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["ready"] is True
    assert {name: one["ready"] for name, one in found["nodes"].items()} == dict.fromkeys(NODES, True)


def test_a_command_of_the_shell_has_kubectl_and_speaks_with_the_cluster(cluster: Cluster) -> None:
    command = [sys.executable, "-m", "cluster", "shell", "--state-dir", str(cluster.layout.root), "--"]
    # A machine may have a kubectl, and a cluster, of its own.
    environment = {**os.environ, "PATH": "/nowhere", "KUBECONFIG": "/nowhere"}
    done = subprocess.run(
        [*command, "kubectl", "get", "nodes", "--output=name"],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [f"node/{name}" for name in NODES]


def test_up_again_leaves_the_cluster_as_it_is(cluster: Cluster) -> None:
    before = cluster.first_process()
    assert cluster.up() is False
    assert cluster.first_process() == before


@pytest.mark.parametrize("node", NODES)
def test_a_pod_finds_a_service_by_name_and_reaches_its_pods_on_both_nodes(kubectl: Shell, town: str, node: str) -> None:
    servers = {one["metadata"]["name"] for one in kubectl.get("pods", "-n", town, "-l", "app=server")["items"]}
    nodes = {one["spec"]["nodeName"] for one in kubectl.get("pods", "-n", town, "-l", "app=server")["items"]}
    assert nodes == set(NODES)
    answered: set[str] = set()

    def all_answered() -> bool:
        answered.add(kubectl("exec", "-n", town, f"client-{node}", "--", "/probe", "get", "http://server.town").strip())
        return answered == servers

    wait_until(all_answered, f"Only {answered} answered", PATIENCE)


def test_names_outside_the_cluster_do_not_exist(kubectl: Shell, town: str) -> None:
    done = kubectl.run("exec", "-n", town, "client-node2", "--", "/probe", "lookup", "example.com")
    assert done.returncode == 1
    assert "no such host" in done.stderr


def test_logs_are_shown(kubectl: Shell, town: str) -> None:
    kubectl.apply(pod(town, "talker", restartPolicy="Never", container={"args": ["lookup", "server.town"]}))
    kubectl("wait", "-n", town, "pod/talker", "--for=jsonpath={.status.phase}=Succeeded", f"--timeout={PATIENCE:.0f}s")
    address = kubectl.get("service", "server", "-n", town)["spec"]["clusterIP"]
    assert kubectl("logs", "-n", town, "talker").split() == [address]


def test_restricted_refuses_what_it_should(kubectl: Shell, town: str) -> None:
    done = kubectl.run("apply", "-f", "-", given=pod(town, "root", container={"securityContext": {"privileged": True}}))
    assert done.returncode != 0
    assert "violates PodSecurity" in done.stderr


@pytest.mark.parametrize("node", NODES)
def test_a_policy_denies_and_allows(kubectl: Shell, town: str, node: str) -> None:
    """From the same node, and from the other one: the server has a pod on both."""
    client, servers = f"client-{node}", kubectl.get("pods", "-n", town, "-l", "app=server")["items"]
    targets = [f"{one['status']['podIP']}:8000" for one in servers]

    def reach(expected: bool) -> None:
        def as_expected() -> bool:
            return all(kubectl.dials(town, client, target) is expected for target in targets)

        wait_until(as_expected, f"{client} was not {'let through' if expected else 'held up'}", PATIENCE)

    to_server = {"podSelector": {"matchLabels": {"app": "server"}}}
    reach(True)
    kubectl.apply(network_policy(town, "deny", **to_server, policyTypes=["Ingress"]))
    reach(False)
    peer = {"podSelector": {"matchLabels": {"app": client}}}
    kubectl.apply(network_policy(town, "allow", **to_server, ingress=[{"from": [peer], "ports": [{"port": "http"}]}]))
    reach(True)
    kubectl("delete", "networkpolicy", "-n", town, "allow")
    reach(False)
    # The kubelet's probes come from the node itself, which no policy holds up.
    kubectl("wait", "-n", town, "pods", "-l", "app=server", "--for=condition=Ready", "--timeout=1s")
    kubectl("delete", "networkpolicy", "-n", town, "deny")
    reach(True)


@pytest.mark.parametrize("node", NODES)
def test_a_policy_of_what_leaves(kubectl: Shell, town: str, node: str) -> None:
    """Default deny holds DNS and the API server up too; each is let through by a rule of its own."""
    client = f"client-{node}"
    selected = {"podSelector": {"matchLabels": {"app": client}}, "policyTypes": ["Egress"]}
    kubectl.apply(network_policy(town, "deny-out", **selected))

    def looks_up() -> bool:
        done = kubectl.run("exec", "-n", town, client, "--", "/probe", "lookup", "server.town.svc.cluster.local.")
        return done.returncode == 0

    wait_until(lambda: not looks_up(), "DNS was not held up", PATIENCE)
    assert not kubectl.dials(town, client, "10.96.0.1:443")
    system = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}}
    dns = {"to": [system], "ports": [{"port": "dns", "protocol": "UDP"}]}
    kubectl.apply(network_policy(town, "allow-dns", **selected, egress=[dns]))
    wait_until(looks_up, "DNS was not let through", PATIENCE)
    assert not kubectl.dials(town, client, "10.96.0.1:443")
    server = kubectl.get("endpoints", "kubernetes", "-n", "default")["subsets"][0]["addresses"][0]["ip"]
    block = {"to": [{"ipBlock": {"cidr": f"{server}/32"}}], "ports": [{"port": 6443}]}
    kubectl.apply(network_policy(town, "allow-api", **selected, egress=[block]))
    wait_until(lambda: kubectl.dials(town, client, "10.96.0.1:443"), "The API server was held up", PATIENCE)
    kubectl("delete", "networkpolicy", "-n", town, "--all")


def test_a_policy_with_a_block_of_ipv6_leaves_the_others_in_force(kubectl: Shell, town: str) -> None:
    target = kubectl.get("pods", "-n", town, "-l", "app=server")["items"][0]["status"]["podIP"]
    everybody = [{"ipBlock": {"cidr": one}} for one in ("0.0.0.0/0", "::/0")]
    selected = {"podSelector": {"matchLabels": {"app": "server"}}}
    kubectl.apply(network_policy(town, "allow-all", **selected, ingress=[{"from": everybody}]))
    client = {"podSelector": {"matchLabels": {"app": "client-node1"}}, "policyTypes": ["Egress"]}
    kubectl.apply(network_policy(town, "deny-out", **client))
    held_up = "The policy beside it was not put into force"
    wait_until(lambda: not kubectl.dials(town, "client-node1", f"{target}:8000"), held_up, PATIENCE)
    assert kubectl.dials(town, "client-node2", f"{target}:8000")
    kubectl("delete", "networkpolicy", "-n", town, "--all")
    wait_until(lambda: kubectl.dials(town, "client-node1", f"{target}:8000"), "The policies stayed", PATIENCE)


def test_a_new_pod_is_held_up_from_its_first_packet(kubectl: Shell, town: str) -> None:
    """The pod dials once, as it starts: were the rules late, it would get through."""
    selected = {"podSelector": {"matchLabels": {"app": "early"}}, "policyTypes": ["Egress"]}
    kubectl.apply(network_policy(town, "deny-early", **selected))
    target = kubectl.get("pods", "-n", town, "-l", "app=server")["items"][0]["status"]["podIP"]
    kubectl.apply(pod(town, "early", restartPolicy="Never", container={"args": ["dial", f"{target}:8000"]}))
    kubectl("wait", "-n", town, "pod/early", "--for=jsonpath={.status.phase}=Failed", f"--timeout={PATIENCE:.0f}s")
    assert "timeout" in kubectl("logs", "-n", town, "early")
    kubectl("delete", "networkpolicy", "-n", town, "deny-early")


def test_a_claim_gets_a_volume_and_gives_it_back(cluster: Cluster, kubectl: Shell, town: str) -> None:
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data", "namespace": town},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    mounted = {"volumeMounts": [{"name": "data", "mountPath": "/data"}]}
    volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]
    kubectl.apply(claim, pod(town, "keeper", container=mounted, volumes=volumes))
    kubectl("wait", "-n", town, "pod/keeper", "--for=condition=Ready", f"--timeout={PATIENCE:.0f}s")
    (volume,) = kubectl.get("persistentvolumes")["items"]
    assert volume["spec"]["capacity"] == {"storage": "1Gi"}
    node = kubectl.get("pod", "keeper", "-n", town)["spec"]["nodeName"]
    path = volume["spec"]["local"]["path"]
    enter = [*cluster.enter(node), "stat", "--format=%g", path]
    assert subprocess.run(enter, capture_output=True, text=True, check=True).stdout.strip() == "10001"
    kubectl("delete", "-n", town, "pod/keeper", "persistentvolumeclaim/data")
    wait_until(lambda: kubectl.get("persistentvolumes")["items"] == [], "The volume stayed", PATIENCE)
    assert subprocess.run(enter, capture_output=True, check=False).returncode != 0


def test_a_drain_waits_for_what_a_budget_protects(kubectl: Shell, town: str) -> None:
    budget = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "server", "namespace": town},
        "spec": {"minAvailable": 2, "selector": {"matchLabels": {"app": "server"}}},
    }
    kubectl.apply(budget)
    drain = ("drain", "node2", "--ignore-daemonsets", "--force", "--delete-emptydir-data")
    kubectl("wait", "-n", town, "pdb/server", "--for=jsonpath={.status.currentHealthy}=2", f"--timeout={PATIENCE:.0f}s")
    refused = kubectl.run(*drain, "--timeout=6s")
    assert refused.returncode != 0
    assert "disruption budget" in refused.stderr
    kubectl("delete", "pdb", "-n", town, "server")
    kubectl(*drain, f"--timeout={PATIENCE:.0f}s")
    kubectl("rollout", "status", "-n", town, "deployment/server", f"--timeout={PATIENCE:.0f}s")
    servers = kubectl.get("pods", "-n", town, "-l", "app=server")["items"]
    assert {one["spec"]["nodeName"] for one in servers if "deletionTimestamp" not in one["metadata"]} == {"node1"}
    kubectl("uncordon", "node2")


def traces(cluster: Cluster) -> dict[str, list[str]]:
    """What of the cluster can be found on the machine."""
    layout = cluster.layout
    name, root = layout.name, str(layout.root)
    block = str(layout.read_plan().addresses.block) if layout.root.exists() else ""
    running = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode(errors="replace")
        except OSError:
            continue
        if root in words:
            running.append(words.replace("\0", " "))
    routes = subprocess.run(["ip", "route"], capture_output=True, text=True, check=True).stdout.splitlines()
    return {
        "interfaces": [one.name for one in Path("/sys/class/net").iterdir() if name in one.name],
        # At the top in version 2, in every hierarchy in version 1.
        "cgroups": [str(one) for top in ("", "*/") for one in Path("/sys/fs/cgroup").glob(f"{top}*{name}*")],
        "routes": [line for line in routes if block and block in line],
        "processes": running,
        "mounts": [line for line in Path("/proc/mounts").read_text().splitlines() if root in line or name in line],
        "files": [root] if layout.root.exists() else [],
    }


def test_two_side_by_side_and_down_leaves_nothing_of_one(kubectl: Shell, clusters: Clusters, tmp_path: Path) -> None:
    settings = [Path("/proc/sys/kernel/panic"), Path("/proc/sys/vm/overcommit_memory")]
    before = [path.read_text() for path in settings]
    # Longer than the path of a socket may be, and with what has a meaning in options and shells.
    other = clusters(tmp_path / f"a, b='c' \"d\" {'e' * 120}" / "state")
    other.up()
    found = traces(other)
    block = str(other.layout.read_plan().addresses.block)
    assert all(found[kind] for kind in ("interfaces", "cgroups", "routes", "processes", "files")), found
    assert other.layout.read_plan().slot != kubectl.cluster.layout.read_plan().slot
    assert other.down() is True
    routes = subprocess.run(["ip", "route"], capture_output=True, text=True, check=True).stdout
    assert block not in routes
    assert not any(traces(other).values()), traces(other)
    assert [path.read_text() for path in settings] == before
    assert other.down() is False
    assert kubectl.cluster.is_ready()


def test_a_folder_that_kubeconfig_could_not_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match=r"state:1 has a colon, at which KUBECONFIG would be cut in two"):
        Cluster(tmp_path / "state:1", print).up()


def test_a_program_that_keeps_ending_is_named_at_once(
    clusters: Clusters, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kubelet that cannot run ends the start long before the nodes would be given up, with what it said last."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for path in gotools.ensure("kubernetes", print).iterdir():
        if path.name != "kubelet":
            (programs / path.name).symlink_to(path)
    said = "E1121 kubelet.go:1] the socket is cursed"
    (programs / "kubelet").write_text(f"#!/bin/sh\necho '{said}' >&2\necho bye\nexit 3\n")
    (programs / "kubelet").chmod(0o755)
    ensure = gotools.ensure
    monkeypatch.setattr(gotools, "ensure", lambda name, say: programs if name == "kubernetes" else ensure(name, say))
    cluster = clusters(tmp_path / "state")
    with pytest.raises(ClusterError, match=r"(?s)^The cluster did not start\. node[12] ended with status 1") as failed:
        cluster.up()
    assert re.search(rf"kubelet-node[12] keeps ending, with status 3\. .* says: {re.escape(said)}$", str(failed.value))
    assert not any(traces(cluster).values()), traces(cluster)
    shutil.rmtree(cache.root() / f"cluster-{cluster.layout.name}.failed")


def test_an_api_server_that_was_killed_comes_back(kubectl: Shell) -> None:
    cluster = kubectl.cluster
    server = process_of(cluster, "kube-apiserver")
    os.kill(server, signal.SIGKILL)
    wait_until(lambda: process_of(cluster, "kube-apiserver") not in {0, server}, "It was not started again", PATIENCE)
    # Nobody answers yet, and the cluster stays the one that it is.
    first = cluster.first_process()
    assert cluster.up() is False
    assert cluster.first_process() == first
    assert {one["metadata"]["name"] for one in kubectl.get("nodes")["items"]} == set(NODES)


def test_a_node_that_ended_is_named_and_not_tried_again(clusters: Clusters, tmp_path: Path) -> None:
    cluster = clusters(tmp_path / "state")
    cluster.up()
    target = cluster.enter("node2")[1].removeprefix("--target=")
    os.kill(int(target), signal.SIGKILL)
    log = cluster.layout.logs / "init.log"
    wait_until(lambda: "node2 ended with status -9; it cannot be" in log.read_text(), "It was not named", PATIENCE)
    found = report.describe(cluster)
    assert found["ready"] is False
    assert found["detail"].startswith("node2 of the cluster in ")
    assert "starting it again" not in log.read_text()
    assert cluster.down() is True
    assert not any(traces(cluster).values()), traces(cluster)


def process_of(cluster: Cluster, program: str) -> int:
    """Return the process of the cluster that runs the program; 0 when none does."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_text(errors="replace").split("\0")
        except OSError:
            continue
        if words[0].endswith(f"/{program}") and any(str(cluster.layout.root) in word for word in words):
            return int(path.parent.name)
    return 0


def test_what_is_no_image_is_said(cluster: Cluster, tmp_path: Path) -> None:
    archive = tmp_path / "notes.txt"
    archive.write_text("not an image")
    with pytest.raises(ClusterError, match=r"notes\.txt is not an archive of images that can be loaded"):
        cluster.load(archive)


def test_a_start_that_was_killed_can_be_repeated(clusters: Clusters, tmp_path: Path) -> None:
    state = tmp_path / "state"
    command = [sys.executable, "-m", "cluster", "up", "--state-dir", str(state)]
    cluster = clusters(state)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as starting:
        assert starting.stderr is not None
        for line in starting.stderr:
            if line.startswith("API server ready"):
                break
        os.kill(starting.pid, signal.SIGKILL)
    left = cluster.first_process()
    assert left is not None
    assert cluster.up() is True
    assert left.process() is None
    crashed = cluster.first_process()
    assert crashed is not None
    os.kill(crashed.pid, signal.SIGKILL)
    wait_until(lambda: cluster.first_process() is None, "The first process did not end", PATIENCE)
    assert report.describe(cluster)["running"] is False
    cluster.down()
    assert not any(traces(cluster).values()), traces(cluster)
