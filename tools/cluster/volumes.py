"""Volumes of the storage class `local`: a folder on the node where the first pod of the claim goes."""

import shutil
from pathlib import Path
from typing import Any

from cluster.addresses import NODES
from cluster.api import Api, ApiError
from cluster.layout import Layout

__all__ = ["provide", "volume_for"]

Json = dict[str, Any]
_CLASS = "local"
_PROVISIONER = "taskbridge.dev/local"
_NODE = "volume.kubernetes.io/selected-node"
_BY = "pv.kubernetes.io/provisioned-by"
_GONE = 404
_THERE = 409


def volume_for(claim: Json, layout: Layout) -> Json | None:
    """Return the volume that the claim waits for; None if it waits for none of ours, or not yet."""
    meta, spec = claim["metadata"], claim["spec"]
    node = meta.get("annotations", {}).get(_NODE)
    waits = claim.get("status", {}).get("phase") == "Pending" and "volumeName" not in spec
    if not waits or node not in NODES or spec.get("storageClassName") != _CLASS or "deletionTimestamp" in meta:
        return None
    name = f"pvc-{meta['uid']}"
    on_node = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name, "annotations": {_BY: _PROVISIONER}},
        "spec": {
            "capacity": {"storage": spec["resources"]["requests"]["storage"]},
            "accessModes": spec["accessModes"],
            "volumeMode": spec.get("volumeMode", "Filesystem"),
            "persistentVolumeReclaimPolicy": "Delete",
            "storageClassName": _CLASS,
            "local": {"path": str(layout.node(node) / "volumes" / name)},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [on_node]}]}},
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "namespace": meta["namespace"],
                "name": meta["name"],
                "uid": meta["uid"],
            },
        },
    }


def provide(api: Api, layout: Layout, claims: list[Json], volumes: list[Json]) -> None:
    """Create the volumes that claims wait for, and remove those that were released. Raises ApiError, OSError."""
    existing = {one["metadata"]["name"] for one in volumes}
    for claim in claims:
        volume = volume_for(claim, layout)
        if volume is None or volume["metadata"]["name"] in existing:
            continue
        folder = Path(volume["spec"]["local"]["path"])
        folder.mkdir(parents=True, exist_ok=True)
        # Whose files they will be is the pod's business, which may have any user.
        folder.chmod(0o777)
        _unless(_THERE, api, "POST", "/api/v1/persistentvolumes", volume)
    for volume in volumes:
        meta = volume["metadata"]
        if meta.get("annotations", {}).get(_BY) == _PROVISIONER and volume["status"].get("phase") in {
            "Released",
            "Failed",
        }:
            shutil.rmtree(volume["spec"]["local"]["path"], ignore_errors=True)
            _unless(_GONE, api, "DELETE", f"/api/v1/persistentvolumes/{meta['name']}")


def _unless(status: int, api: Api, method: str, path: str, body: Json | None = None) -> None:
    try:
        api.request(method, path, body)
    except ApiError as refused:
        if refused.status != status:
            raise
