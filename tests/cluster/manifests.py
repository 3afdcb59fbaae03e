"""Small manifests for pods that only show how the cluster behaves; all of them fit into a `restricted` namespace."""

from __future__ import annotations

from typing import Any

IMAGE = "taskbridge/probe:1"
RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


def namespace(name: str) -> dict[str, Any]:
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def pod_spec(**extra: Any) -> dict[str, Any]:
    container = {
        "name": "probe",
        "image": IMAGE,
        "args": ["serve", "8000"],
        "ports": [{"name": "http", "containerPort": 8000}],
        "readinessProbe": {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 1},
        "securityContext": RESTRICTED,
        **extra.pop("container", {}),
    }
    security = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}, "fsGroup": 10001}
    return {"containers": [container], "securityContext": security, "terminationGracePeriodSeconds": 1, **extra}


def pod(space: str, name: str, **extra: Any) -> dict[str, Any]:
    meta = {"name": name, "namespace": space, "labels": {"app": name}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": pod_spec(**extra)}


def deployment(space: str, name: str, replicas: int, **extra: Any) -> dict[str, Any]:
    labels = {"app": name}
    spread = {
        "maxSkew": 1,
        "topologyKey": "topology.kubernetes.io/zone",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": labels},
    }
    template = {"metadata": {"labels": labels}, "spec": pod_spec(topologySpreadConstraints=[spread], **extra)}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": space},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template},
    }


def service(space: str, name: str) -> dict[str, Any]:
    spec = {"selector": {"app": name}, "ports": [{"port": 80, "targetPort": "http"}]}
    meta = {"name": name, "namespace": space}
    return {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": spec}


def network_policy(space: str, name: str, **spec: Any) -> dict[str, Any]:
    meta = {"name": name, "namespace": space}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": meta, "spec": spec}
