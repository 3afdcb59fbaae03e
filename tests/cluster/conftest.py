"""
A cluster for the tests: one of our own, or the one that TASKBRIDGE_TEST_KUBECONFIG names.

That other one must have the images that `python -m images build` prints, and nodes called node1 and node2.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.kube import Kube

ROOT = Path(__file__).resolve().parents[2]


def tool(*arguments: str) -> str:
    """Return what one of the project's own tools prints; its progress goes to the terminal."""
    done = subprocess.run(
        [sys.executable, "-m", *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False, timeout=3600
    )
    assert done.returncode == 0, f"python -m {' '.join(arguments)}: exit {done.returncode}\n{done.stdout}"
    return done.stdout.strip()


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
