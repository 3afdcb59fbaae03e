"""What a cluster's network and storage add-ons do elsewhere: NetworkPolicies put into force, volumes provided."""

import json
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NoReturn

from cluster import volumes
from cluster.addresses import NODES
from cluster.announce import IN_FORCE
from cluster.api import Api, ApiError
from cluster.layout import Layout
from cluster.policy import Pod, ruleset

__all__ = ["Mirror", "announced", "announcements", "main", "pods_of"]

_LOOK_INTERVAL = 0.05
_RETRY = 0.5
_PATHS = {
    "pods": "/api/v1/pods",
    "namespaces": "/api/v1/namespaces",
    "policies": "/apis/networking.k8s.io/v1/networkpolicies",
    "claims": "/api/v1/persistentvolumeclaims",
    "volumes": "/api/v1/persistentvolumes",
}

Json = dict[str, Any]


class Mirror:
    """The objects of one kind as the API server has them, kept by a thread; `changed` is called after every change."""

    def __init__(self, api: Api, path: str, changed: Callable[[], None]) -> None:
        self._api = api
        self._path = path
        self._changed = changed
        self._objects: dict[str, Json] = {}
        self._lock = threading.Lock()
        self._listed = threading.Event()
        threading.Thread(target=self._follow, daemon=True).start()

    def all(self) -> list[Json]:
        """Return the objects; waits for the first list."""
        self._listed.wait()
        with self._lock:
            return list(self._objects.values())

    def _follow(self) -> NoReturn:
        version = ""
        while True:
            try:
                version = self._watch(version or self._list())
            except ApiError as refused:
                _say(str(refused))
                version = ""
                time.sleep(_RETRY)

    def _list(self) -> str:
        answer = self._api.get(self._path)
        with self._lock:
            self._objects = {one["metadata"]["uid"]: one for one in answer["items"]}
        self._listed.set()
        self._changed()
        return str(answer["metadata"]["resourceVersion"])

    def _watch(self, version: str) -> str:
        for kind, one in self._api.watch(self._path, version):
            version = one["metadata"]["resourceVersion"]
            with self._lock:
                if kind == "DELETED":
                    self._objects.pop(one["metadata"]["uid"], None)
                else:
                    self._objects[one["metadata"]["uid"]] = one
            self._changed()
        return version


def _say(what: str) -> None:
    print(what, flush=True)  # noqa: T201


def announcements(layout: Layout) -> set[Path]:
    """Return the files in which the nodes' networks tell of their pods, one for each that has an address."""
    found = (path for node in NODES for path in layout.announcements(node).glob("[!.]*"))
    return {path for path in found if not path.name.endswith(IN_FORCE)}


def announced(layout: Layout) -> dict[Path, tuple[str, str, str]]:
    """
    Return what the announcements say, as (namespace, pod, address).

    The API server learns an address only when the containers have started, which is too late for a rule.
    """
    found: dict[Path, tuple[str, str, str]] = {}
    for path in announcements(layout):
        try:
            space, name, address = json.loads(path.read_text())
        except FileNotFoundError:
            # The pod went while we looked.
            continue
        found[path] = space, name, address
    return found


def pods_of(objects: list[Json], addresses: Iterable[tuple[str, str, str]]) -> Iterator[Pod]:
    """Yield a pod for each (namespace, pod, address) whose object is known."""
    known = {(one["metadata"]["namespace"], one["metadata"]["name"]): one for one in objects}
    for space, name, address in addresses:
        if (one := known.get((space, name))) is None:
            continue
        ports = {
            (port["name"], port.get("protocol", "TCP")): port["containerPort"]
            for container in one["spec"]["containers"]
            for port in container.get("ports", [])
            if "name" in port
        }
        yield Pod(space, name, address, one["metadata"].get("labels", {}), ports)


class _Policies:
    """Puts the rules into the network namespaces of both nodes whenever they are others."""

    def __init__(self, layout: Layout, mirrors: dict[str, Mirror]) -> None:
        self._layout = layout
        self._mirrors = mirrors
        self._applied = ""

    def apply(self) -> None:
        """Bring the rules up to date, then answer the announcements that they cover."""
        told = announced(self._layout)
        namespaces = {one["metadata"]["name"]: one["metadata"].get("labels", {}) for one in self._all("namespaces")}
        pods = list(pods_of(self._all("pods"), told.values()))
        rules = ruleset(pods, namespaces, self._all("policies"))
        if rules != self._applied:
            for node in NODES:
                target = f"--target={self._layout.node_pid(node).read_text()}"
                subprocess.run(["nsenter", target, "--net", "nft", "-f", "-"], input=rules, text=True, check=True)
            self._applied = rules
        covered = {(pod.namespace, pod.name) for pod in pods}
        for path, (space, name, _) in told.items():
            if (space, name) in covered and path.exists():
                path.with_name(f"{path.name}{IN_FORCE}").touch()

    def _all(self, kind: str) -> list[Json]:
        return self._mirrors[kind].all()


def main() -> None:
    """Run as `python -m cluster.agents STATE_DIR`, for ever, in the namespaces of the cluster."""
    layout = Layout(Path(sys.argv[1]))
    api = Api(layout.kubeconfig)
    changes: queue.SimpleQueue[None] = queue.SimpleQueue()
    mirrors = {kind: Mirror(api, path, lambda: changes.put(None)) for kind, path in _PATHS.items()}
    policies = _Policies(layout, mirrors)
    known: set[Path] = set()
    while True:
        try:
            changes.get(timeout=_LOOK_INTERVAL)
        except queue.Empty:
            if (now := announcements(layout)) == known:
                continue
            known = now
        while not changes.empty():
            changes.get()
        try:
            policies.apply()
            volumes.provide(api, layout, mirrors["claims"].all(), mirrors["volumes"].all())
        except (ApiError, OSError, ValueError, KeyError, subprocess.CalledProcessError) as failed:
            _say(f"{type(failed).__name__}: {failed}")
            changes.put(None)
            time.sleep(_RETRY)


if __name__ == "__main__":
    main()
