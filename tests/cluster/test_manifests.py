"""An API server takes every manifest in k8s/, with every field, and lets its pods pass."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.cluster.kube import ROOT, Kube

FOLDER = ROOT / "k8s"
MANIFESTS = [FOLDER / "alerts" / "kafka.yaml", *sorted((FOLDER / "examples").glob("*.yaml"))]


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_a_manifest_is_taken_without_a_warning(path: Path, defined: Kube) -> None:
    arguments = ("--namespace", "kafka") if path.parent.name == "alerts" else ()
    # What has a generated name cannot be applied; what is applied is looked at just as strictly.
    said = defined.run(
        "create", "--dry-run=server", "--validate=strict", "--filename", str(path), *arguments, check=False
    )
    expected = sum(1 for document in yaml.safe_load_all(path.read_text()) if document)
    assert said.count("created (server dry run)") == expected, said
    assert "Warning" not in said


def test_the_namespaces_refuse_what_is_not_restricted(defined: Kube) -> None:
    for name in ("kafka", "shop"):
        said = defined.run("run", "loose", "--image", "any:1.0", "--namespace", name, "--dry-run=server", check=False)
        assert 'violates PodSecurity "restricted:latest"' in said


def test_the_dashboards_are_taken_as_config_maps(defined: Kube) -> None:
    made = defined.run("kustomize", "--load-restrictor", "LoadRestrictionsNone", str(FOLDER / "dashboards"))
    said = defined.run("apply", "--dry-run=server", "--namespace", "shop", "--filename", "-", stdin=made)
    boards = sorted((ROOT / "charts" / "shop" / "files" / "dashboards").glob("*.json"))
    assert said.count("created (server dry run)") == len(boards) == 4
