"""What the cluster's own network and storage read off its objects."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cluster import announce
from cluster.agents import announced, pods_of
from cluster.layout import Layout
from cluster.policy import Pod
from cluster.supervisor import wait_until
from cluster.volumes import volume_for


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path, inside=tmp_path)


class Network:
    """The plugin as containerd calls it, once per command."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)

    def start(self, command: str, pod: str, address: str = "") -> subprocess.Popen[str]:
        environment = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": f"sandbox-of-{pod}",
            "CNI_ARGS": f"IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME={pod}",
        }
        result = {"cniVersion": "0.4.0", "ips": [{"version": "4", "address": f"{address}/24"}]}
        plugin = subprocess.Popen(
            [sys.executable, "-I", "-S", announce.__file__, str(self.folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        assert plugin.stdin is not None
        plugin.stdin.write(json.dumps({"cniVersion": "0.4.0", "name": "pods", "prevResult": result}))
        plugin.stdin.close()
        plugin.stdin = None
        return plugin

    def run(self, command: str, pod: str) -> str:
        plugin = self.start(command, pod)
        said, _ = plugin.communicate(timeout=60)
        assert plugin.returncode == 0
        return said


def test_a_pod_starts_when_its_rules_are_in_force_and_not_before(layout: Layout) -> None:
    network = Network(layout.announcements("node2"))
    plugin = network.start("ADD", "worker", "10.245.1.2")
    wait_until(lambda: bool(announced(layout)), "Nothing was announced", 60.0)
    ((path, told),) = announced(layout).items()
    assert told == ("shop", "worker", "10.245.1.2")
    assert plugin.poll() is None
    path.with_name(f"{path.name}{announce.IN_FORCE}").touch()
    said, _ = plugin.communicate(timeout=60)
    assert plugin.returncode == 0
    assert json.loads(said)["ips"] == [{"version": "4", "address": "10.245.1.2/24"}]
    assert list(announced(layout).values()) == [told]
    assert network.run("DEL", "worker") == ""
    assert list(network.folder.iterdir()) == []


def test_a_pod_that_was_never_announced_can_go(layout: Layout) -> None:
    assert Network(layout.announcements("node1")).run("DEL", "web") == ""


def test_the_plugin_says_which_versions_it_speaks(layout: Layout) -> None:
    said = json.loads(Network(layout.announcements("node1")).run("VERSION", "web"))
    assert "0.4.0" in said["supportedVersions"]


def test_pods_without_an_address_of_their_own_are_no_subject_of_policies() -> None:
    port = {"name": "http", "containerPort": 8000}
    container = {"ports": [port, {"containerPort": 9000}]}
    objects: list[dict[str, Any]] = [
        {"metadata": {"namespace": "shop", "name": name, "labels": {"app": name}}, "spec": {"containers": [container]}}
        for name in ("web", "on-the-host")
    ]
    assert list(pods_of(objects, [("shop", "web", "10.245.0.2"), ("shop", "unknown", "10.245.0.3")])) == [
        Pod("shop", "web", "10.245.0.2", {"app": "web"}, {("http", "TCP"): 8000})
    ]


def claim(**changes: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "namespace": "shop",
            "name": "data",
            "uid": "4711",
            "annotations": {"volume.kubernetes.io/selected-node": "node2"},
            **changes.pop("metadata", {}),
        },
        "spec": {
            "storageClassName": "local",
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "2Gi"}},
            **changes.pop("spec", {}),
        },
        "status": {"phase": "Pending", **changes},
    }


def test_a_claim_whose_pod_has_a_node_gets_a_volume_there(layout: Layout) -> None:
    volume = volume_for(claim(), layout)
    assert volume is not None
    assert volume["spec"]["claimRef"]["uid"] == "4711"
    assert volume["spec"]["local"]["path"] == f"{layout.node('node2')}/volumes/pvc-4711"
    (term,) = volume["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"]
    assert term["matchExpressions"][0]["values"] == ["node2"]


@pytest.mark.parametrize(
    "changes",
    [
        {"metadata": {"annotations": {}}},
        {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}},
        {"spec": {"storageClassName": "fast"}},
        {"spec": {"volumeName": "there-already"}},
        {"phase": "Bound"},
    ],
    ids=str,
)
def test_other_claims_get_none(layout: Layout, changes: dict[str, Any]) -> None:
    assert volume_for(claim(**changes), layout) is None
