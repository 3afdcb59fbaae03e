"""An API server takes every manifest in k8s/ and of the charts' scenarios, with every field, and lets its pods pass."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from charts.render import Chart, Scenario, charts, tool
from charts.server import ApiServer
from tests.cluster.kube import ROOT, Kube
from tests.cluster.operating import define

FOLDER = ROOT / "k8s"
CHARTS = ROOT / "charts"
MANIFESTS = sorted((FOLDER / "examples").glob("*.yaml"))

TRIED = "tried"
"""A namespace in which nothing is installed, so that nothing of a release is in the way."""

MODES = ("enforce", "warn")


@pytest.fixture(scope="module")
def server(defined: Kube, kubeconfig: Path) -> Iterator[ApiServer]:
    """Return the API server, which knows our own resources too."""
    define(defined)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KUBECONFIG", str(kubeconfig))
        api = ApiServer(tool("kubectl"))
        defined.run("create", "namespace", TRIED)
        defined.run("label", "namespace", TRIED, *(f"pod-security.kubernetes.io/{mode}=restricted" for mode in MODES))
        yield api
        defined.run("delete", "namespace", TRIED, "--wait=false")


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
@pytest.mark.usefixtures("server")
def test_a_manifest_is_taken_without_a_warning(path: Path, defined: Kube) -> None:
    # What has a generated name cannot be applied; what is applied is looked at just as strictly.
    said = defined.run("create", "--dry-run=server", "--validate=strict", "--filename", str(path), check=False)
    expected = sum(1 for document in yaml.safe_load_all(path.read_text()) if document)
    assert said.count("created (server dry run)") == expected, said
    assert "Warning" not in said


def test_the_namespaces_refuse_what_is_not_restricted(defined: Kube) -> None:
    for name in ("kafka", "shop"):
        said = defined.run("run", "loose", "--image", "any:1.0", "--namespace", name, "--dry-run=server", check=False)
        assert 'violates PodSecurity "restricted:latest"' in said


@pytest.mark.parametrize(
    ("folder", "kind", "suffix"),
    [("alerts", "prometheusrule.monitoring.coreos.com", "yaml"), ("dashboards", "configmap", "json")],
)
def test_what_stands_for_a_charts_own_files_is_taken(folder: str, kind: str, suffix: str, defined: Kube) -> None:
    made = defined.run("kustomize", "--load-restrictor", "LoadRestrictionsNone", str(FOLDER / folder))
    strictly = ("--dry-run=server", "--validate=strict")
    said = defined.run("apply", *strictly, "--namespace", "shop", "--filename", "-", stdin=made)
    files = [file for chart in ("shop", "operator") for file in (CHARTS / chart / "files" / folder).glob(f"*.{suffix}")]
    taken = [line for line in said.splitlines() if line.endswith("created (server dry run)")]
    assert len(taken) == len(files) == 5
    assert all(line.startswith(f"{kind}/taskbridge-") for line in taken), said


@pytest.mark.parametrize(
    ("chart", "scenario"),
    [
        pytest.param(chart, scenario, id=f"{chart.name}-{scenario.name}")
        for chart in charts()
        for scenario in chart.scenarios
    ],
)
def test_a_scenario_is_taken_with_every_field(chart: Chart, scenario: Scenario, server: ApiServer) -> None:
    assert server.check(chart, scenario, TRIED).trouble == ""
