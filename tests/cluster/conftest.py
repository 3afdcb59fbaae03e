"""
A cluster for the tests: one of our own for each process, or the one that TASKBRIDGE_TEST_KUBECONFIG names.

That other one must have the images that `python -m images build` prints, and a node in each of zone-1 and zone-2.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from xdist.scheduler import LoadScopeScheduling

from tests.cluster.kube import ROOT, Kube, tool
from tests.cluster.operating import Town, define
from tests.cluster.system import System

__all__ = ["ROOT", "tool"]

_TIMEOUT = 1500.0
"""Seconds for a test and the fixtures that it is the first to need: where nothing is built yet, that is long."""


STORY = ("test_bad_input.py", "test_operator.py", "test_outbox.py", "test_system.py")
"""Files whose tests are about the shop, one after another."""


class Clusters(LoadScopeScheduling):
    """
    Of several processes one gets the story of the shop and another all else, each with a cluster of its own.

    A cluster that is given is one, and so is then the process.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0].rpartition("/")[2]
        return "story" if file in STORY or "TASKBRIDGE_TEST_KUBECONFIG" in os.environ else "others"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Clusters:
    """Share the tests out between processes."""
    return Clusters(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give every test of this folder time; a mark of its own that gives it more stays."""
    for item in items:
        if isinstance(item, pytest.Function) and item.path.is_relative_to(Path(__file__).parent):
            if "shop" in item.fixturenames and item.path.name not in STORY:
                raise pytest.UsageError(f"{item.path.name} is about the shop: name it in STORY")
            own = item.get_closest_marker("timeout")
            if own is None or own.args[0] < _TIMEOUT:
                item.add_marker(pytest.mark.timeout(_TIMEOUT), append=False)


@pytest.fixture(scope="session")
def images() -> dict[str, str]:
    """Name -> archive of each image, and `NAME:reference` -> its reference."""
    built = json.loads(tool("images", "build", "--json"))
    return {one["name"]: one["archive"] for one in built} | {
        f"{one['name']}:reference": one["reference"] for one in built
    }


@pytest.fixture(scope="session")
def kubeconfig(images: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Yield the kubeconfig of a cluster that has the images."""
    if given := os.environ.get("TASKBRIDGE_TEST_KUBECONFIG"):
        yield Path(given)
        return
    state = tmp_path_factory.mktemp("cluster")
    where = ("--state-dir", str(state))
    try:
        tool("cluster", "up", *where)
        tool("cluster", "load", *where, *(path for name, path in images.items() if ":" not in name))
        yield Path(json.loads(tool("cluster", "status", *where, "--json"))["kubeconfig"])
    finally:
        tool("cluster", "down", *where)


@pytest.fixture(scope="session")
def kube(kubeconfig: Path) -> Kube:
    """Return kubectl and helm on the cluster."""
    return Kube(kubeconfig, *(Path(tool("cluster", "tool", name)) for name in ("kubectl", "helm")))


@pytest.fixture(scope="session")
def defined(kube: Kube) -> Kube:
    """Return the cluster with our namespaces, and with the resources of Strimzi and of the Prometheus operator."""
    for folder in tool("crds").splitlines():
        kube.run("apply", "--server-side", "--force-conflicts", "--filename", folder, timeout=300)
    kube.run("wait", "--for=condition=Established", "--all", "customresourcedefinitions", "--timeout=60s")
    kube.run("apply", "--filename", str(ROOT / "k8s/namespaces.yaml"))
    return kube


@pytest.fixture(scope="session")
def shop(defined: Kube, images: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> System:
    """Return the shop as it is found: nothing of it is there, or a part, or all."""
    return System(defined, images, tmp_path_factory.mktemp("values"))


@pytest.fixture(scope="session")
def system(shop: System) -> System:
    """Return the shop with Kafka and both charts installed, everything ready."""
    shop.complete()
    return shop


@pytest.fixture(scope="module")
def kubeconfig_path(request: pytest.FixtureRequest) -> Path:
    """The cluster's kubeconfig; for a cluster that is given no image is built."""
    if given := os.environ.get("TASKBRIDGE_TEST_KUBECONFIG"):
        return Path(given)
    return Path(request.getfixturevalue("kubeconfig"))


@pytest.fixture(scope="module")
def town(kubeconfig_path: Path) -> Iterator[Town]:
    """A namespace, and our CRDs."""
    kube = Kube(kubeconfig_path, *(Path(tool("cluster", "tool", name)) for name in ("kubectl", "helm")))
    define(kube)
    name = f"town-{uuid4().hex[:8]}"
    kube.run("create", "namespace", name)
    # Of our images the one that changes least, so that work on the others asks for no new one on the nodes.
    images = {one["name"]: one["reference"] for one in json.loads(tool("images", "list", "--json"))}
    yield Town(kube, name, images["redis"])
    kube.run("delete", "namespace", name, "--wait=false")
