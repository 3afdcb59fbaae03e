"""What `status` says of a cluster whose API server answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cluster import report
from cluster.addresses import NODES
from cluster.api import ApiError
from cluster.errors import ClusterError
from cluster.lifecycle import Cluster

DNS = "/apis/apps/v1/namespaces/kube-system/deployments/coredns"


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Path -> what the API server answers; all is well."""
    conditions = [{"type": "Ready", "status": "True"}]
    status = {"conditions": conditions, "addresses": [], "nodeInfo": {"kubeletVersion": "v1.34.1"}}
    nodes = [{"metadata": {"name": name}, "spec": {}, "status": status} for name in NODES]
    pods = [{"spec": {"nodeName": "node2"}}]
    found = {"/api/v1/nodes": {"items": nodes}, "/api/v1/pods": {"items": pods}, DNS: {"status": {"readyReplicas": 1}}}

    class Fake:
        def __init__(self, _: Path) -> None:
            pass

        def get(self, path: str) -> Any:
            if path not in found:
                raise ApiError(f"there is no {path}", 404)
            return found[path]

    monkeypatch.setattr(report, "Api", Fake)
    return found


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    one = Cluster(tmp_path, print)
    one.layout.ready.touch()
    monkeypatch.setattr(one, "first_process", object)
    monkeypatch.setattr(one, "enter", lambda _: [])
    return one


@pytest.mark.usefixtures("answers")
def test_all_is_well(cluster: Cluster) -> None:
    found = report.describe(cluster)
    assert found["ready"] is True
    assert found["nodes"]["node2"]["pods"] == 1
    assert found["detail"] == ""


@pytest.mark.parametrize("dns", [{"status": {}}, None], ids=["not ready", "not there"])
def test_without_dns_it_is_not_ready(cluster: Cluster, answers: dict[str, Any], dns: Any) -> None:
    if dns:
        answers[DNS] = dns
    else:
        del answers[DNS]
    found = report.describe(cluster)
    assert found["ready"] is False
    assert "coredns" in found["detail"]
    assert "coredns" in report.as_text(found)


@pytest.mark.usefixtures("answers")
def test_a_node_that_ended_is_named_though_its_kubelet_goes_on(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    def enter(node: str) -> list[str]:
        if node == "node2":
            raise ClusterError("node2 has ended")
        return []

    monkeypatch.setattr(cluster, "enter", enter)
    found = report.describe(cluster)
    assert (found["ready"], found["detail"]) == (False, "node2 has ended")
