"""What `status` says of a cluster."""

from typing import Any

from cluster.addresses import NODES
from cluster.api import Api, ApiError
from cluster.controlplane import dns_runs
from cluster.errors import ClusterError
from cluster.lifecycle import Cluster

__all__ = ["as_text", "describe"]


def describe(cluster: Cluster) -> dict[str, Any]:
    """Return the state of the cluster, its nodes and its DNS, as JSON; asks nothing when it does not run."""
    layout = cluster.layout
    found: dict[str, Any] = {
        "state_dir": str(layout.root),
        "running": cluster.first_process() is not None,
        "ready": False,
        "kubeconfig": str(layout.kubeconfig),
        "logs": str(layout.logs),
        "nodes": {},
        "detail": "",
    }
    if not found["running"]:
        return {**found, "detail": "no cluster runs here: python -m cluster up"}
    if not layout.ready.exists():
        return {**found, "detail": "it is starting, or its start was broken off: python -m cluster up"}
    api = Api(layout.kubeconfig)
    try:
        found["nodes"] = {node["metadata"]["name"]: _node(node) for node in api.get("/api/v1/nodes")["items"]}
        pods = api.get("/api/v1/pods")["items"]
        has_dns = dns_runs(api)
    except ApiError as refused:
        return {**found, "detail": str(refused)}
    for pod in pods:
        if (name := pod["spec"].get("nodeName")) in found["nodes"]:
            found["nodes"][name]["pods"] += 1
    if set(found["nodes"]) != set(NODES) or not all(one["ready"] for one in found["nodes"].values()):
        return {**found, "detail": f"not every node is ready: the logs are in {layout.logs}"}
    if not has_dns:
        return {**found, "detail": "no pod of coredns is ready: python -m cluster kubectl get pods -n kube-system"}
    try:
        # Its kubelet outlives the node's first process, without which no rule reaches it.
        for node in NODES:
            cluster.enter(node)
    except ClusterError as ended:
        return {**found, "detail": str(ended)}
    return {**found, "ready": True}


def _node(node: dict[str, Any]) -> dict[str, Any]:
    conditions = {one["type"]: one["status"] for one in node["status"].get("conditions", [])}
    addresses = {one["type"]: one["address"] for one in node["status"].get("addresses", [])}
    return {
        "ready": conditions.get("Ready") == "True",
        "schedulable": not node["spec"].get("unschedulable", False),
        "address": addresses.get("InternalIP", ""),
        "version": node["status"]["nodeInfo"]["kubeletVersion"],
        "pods": 0,
    }


def as_text(found: dict[str, Any]) -> str:
    """Return what `describe` found, for a person."""
    lines = [f"{'ready' if found['ready'] else 'not ready'}: {found['state_dir']}"]
    for name, node in sorted(found["nodes"].items()):
        states = ["ready" if node["ready"] else "not ready", *([] if node["schedulable"] else ["cordoned"])]
        lines.append(f"  {name}  {', '.join(states)}  {node['address']}  {node['version']}  {node['pods']} pods")
    if found["running"]:
        lines += [f"  kubeconfig: {found['kubeconfig']}", f"  logs: {found['logs']}"]
    if found["detail"]:
        lines.append(f"  {found['detail']}")
    return "\n".join(lines)
