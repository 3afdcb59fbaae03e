"""The operator between a real API server and a real bridge: Cutovers, as `kubectl` makes and shows them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from devstack.ports import free_port
from tests.cluster.kube import Kube, tool, wait_for
from tests.cluster.operating import PATIENCE, Operator, Town, definitions, steady
from tests.project.harness import Project, project

pytestmark = [pytest.mark.timeout(900), pytest.mark.services]

SITE = """
from bridged.settings import *

ALLOWED_HOSTS = ["127.0.0.1"]
ROOT_URLCONF = "site_urls"
TASKBRIDGE = {**TASKBRIDGE, "api_tokens": %r}
"""
URLS = """
from django.urls import include, path

urlpatterns = [path("bridge/api/", include("taskbridge.contrib.django.api.urls"))]
"""
SERVICES = ("work", "elsewhere")


class Site:
    """The small project, with the bridge's HTTP API."""

    def __init__(self, one: Project) -> None:
        self.project = one
        self.token = one.directory / "tokens" / "operator"
        self._port = free_port()
        self._process: Any = None
        self.token.parent.mkdir()
        self.token.write_text("o" * 40)
        (one.directory / "site_settings.py").write_text(SITE % str(self.token.parent))
        (one.directory / "site_urls.py").write_text(URLS)
        path = os.pathsep.join([one.environment["PYTHONPATH"], str(one.directory)])
        one.environment |= {"PYTHONPATH": path, "DJANGO_SETTINGS_MODULE": "site_settings"}

    @property
    def url(self) -> str:
        """Where the API is mounted."""
        return f"http://127.0.0.1:{self._port}/bridge/api"

    def start(self) -> None:
        """Serve."""
        where = f"127.0.0.1:{self._port}"
        self._process = self.project.start("site", "django", "runserver", "--noreload", where)

    def stop(self) -> None:
        """Serve no longer."""
        self._process.terminate()

    def audit(self, service: str) -> list[dict[str, Any]]:
        """Return the service's transitions, the oldest first."""
        said = self.project.cli("audit", service, "--json").stdout
        return list(reversed(json.loads(said)["transitions"]))


@pytest.fixture(scope="module")
def kubeconfig_path(request: pytest.FixtureRequest) -> Path:
    """The cluster's kubeconfig; no image of ours is needed."""
    if given := os.environ.get("TASKBRIDGE_TEST_KUBECONFIG"):
        return Path(given)
    return Path(request.getfixturevalue("kubeconfig"))


@pytest.fixture(scope="module")
def town(kubeconfig_path: Path) -> Iterator[Town]:
    """A namespace, and our CRDs."""
    kube = Kube(kubeconfig_path, *(Path(tool("cluster", "tool", name)) for name in ("kubectl", "helm")))
    kube.apply(*definitions())
    kube.run("wait", "--for=condition=Established", *(f"crd/{one['metadata']['name']}" for one in definitions()))
    name = f"cut-{uuid4().hex[:8]}"
    kube.run("create", "namespace", name)
    yield Town(kube, name)
    kube.run("delete", "namespace", name, "--wait=false")
