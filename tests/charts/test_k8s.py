"""The manifests in k8s/: each parses, says where it belongs, and keeps to what the namespaces enforce."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from charts.definitions import Definitions
from charts.render import documents as rendered
from charts.render import find, render
from crds.prometheus import make_prometheus
from tests.charts.test_docs import lines
from tests.charts.test_docs import rendered as release_of
from tests.documents import ROOT, blocks

FOLDER = ROOT / "k8s"
NAMESPACES = {"kafka", "shop"}

MANIFESTS = sorted(
    path
    for path in FOLDER.rglob("*.yaml")
    if path.name != "strimzi-values.yaml" and path.parent.name not in {"kind", "alerts", "dashboards"}
)

POD_SPECS = {
    "Pod": ("spec",),
    "Deployment": ("spec", "template", "spec"),
    "Job": ("spec", "template", "spec"),
    "CronJob": ("spec", "jobTemplate", "spec", "template", "spec"),
}


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def resources(path: Path) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(path.read_text()) if document is not None]


def pods() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield what every pod of the examples is made of."""
    for path in MANIFESTS:
        for resource in resources(path):
            if steps := POD_SPECS.get(resource["kind"]):
                spec: Any = resource
                for step in steps:
                    spec = spec[step]
                metadata = resource["metadata"]
                yield f"{name_of(path)}:{metadata.get('name') or metadata['generateName']}", spec


PODS = dict(pods())


def containers(spec: dict[str, Any]) -> list[dict[str, Any]]:
    return [*spec.get("initContainers", []), *spec["containers"]]


@pytest.mark.parametrize("path", MANIFESTS, ids=name_of)
def test_every_manifest_says_what_it_is_and_whose(path: Path) -> None:
    found = resources(path)
    assert found
    for resource in found:
        assert set(resource) >= {"apiVersion", "kind", "metadata"}
        assert resource["metadata"]["labels"]["app.kubernetes.io/part-of"] == "taskbridge"


@pytest.mark.parametrize(
    "path", [path for name in ("examples", "operator") for path in sorted((FOLDER / name).glob("*.yaml"))], ids=name_of
)
def test_an_example_names_its_namespace(path: Path) -> None:
    assert {resource["metadata"]["namespace"] for resource in resources(path)} <= NAMESPACES


def test_the_namespaces_enforce_restricted() -> None:
    found = resources(FOLDER / "namespaces.yaml")
    assert {resource["metadata"]["name"] for resource in found} == NAMESPACES
    for resource in found:
        labels = resource["metadata"]["labels"]
        levels = {labels[f"pod-security.kubernetes.io/{mode}"] for mode in ("enforce", "audit", "warn")}
        assert levels == {"restricted"}


@pytest.mark.parametrize("spec", PODS.values(), ids=PODS)
def test_every_pod_is_restricted(spec: dict[str, Any]) -> None:
    context = spec["securityContext"]
    assert context["runAsNonRoot"] is True
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    for container in containers(spec):
        own = container["securityContext"]
        assert own["allowPrivilegeEscalation"] is False
        assert own["readOnlyRootFilesystem"] is True
        assert own["capabilities"] == {"drop": ["ALL"]}
        assert {"requests", "limits"} <= set(container["resources"])


@pytest.mark.parametrize("spec", PODS.values(), ids=PODS)
def test_every_image_has_an_exact_version(spec: dict[str, Any]) -> None:
    for container in containers(spec):
        _, _, tag = container["image"].rpartition(":")
        assert re.search(r"\d+\.\d+", tag), container["image"]


@pytest.mark.parametrize("spec", PODS.values(), ids=PODS)
def test_every_mount_has_its_volume(spec: dict[str, Any]) -> None:
    volumes = {volume["name"] for volume in spec["volumes"]}
    mounted = {mount["name"] for container in containers(spec) for mount in container["volumeMounts"]}
    assert mounted == volumes


@pytest.mark.parametrize("path", list(FOLDER.rglob("*.yaml")), ids=name_of)
def test_no_secret_and_no_moving_tag(path: Path) -> None:
    for resource in resources(path):
        assert resource.get("kind") != "Secret"
    assert ":latest" not in path.read_text()


@pytest.mark.parametrize("path", list(FOLDER.rglob("*.yaml")), ids=name_of)
def test_only_current_versions_of_strimzi_resources(path: Path) -> None:
    assert "v1beta2" not in path.read_text()
    for resource in resources(path):
        if "strimzi.io" in str(resource.get("apiVersion")):
            assert resource["apiVersion"] == "kafka.strimzi.io/v1"


def test_the_local_cluster_has_two_workers_in_two_zones() -> None:
    [cluster] = resources(FOLDER / "kind" / "cluster.yaml")
    assert (cluster["kind"], cluster["apiVersion"]) == ("Cluster", "kind.x-k8s.io/v1alpha4")
    assert [node["role"] for node in cluster["nodes"]] == ["control-plane", "worker", "worker"]
    zones = [node["labels"]["topology.kubernetes.io/zone"] for node in cluster["nodes"][1:]]
    assert zones == ["zone-1", "zone-2"]
    assert len({node["image"] for node in cluster["nodes"]}) == 1


def test_strimzi_watches_our_namespaces_only() -> None:
    [values] = resources(FOLDER / "strimzi-values.yaml")
    assert set(values["watchNamespaces"]) == NAMESPACES
    assert "watchAnyNamespace" not in values


def of_the_charts(pattern: str) -> set[Path]:
    """Return the files that are the same for every release, and so can do without the chart."""
    return {file for chart in ("shop", "operator") for file in (ROOT / "charts" / chart / "files").glob(pattern)}


def test_every_dashboard_of_the_charts_is_in_the_kustomization() -> None:
    [kustomization] = resources(FOLDER / "dashboards" / "kustomization.yaml")
    listed = {
        (FOLDER / "dashboards" / file).resolve()
        for generator in kustomization["configMapGenerator"]
        for file in generator["files"]
    }
    assert listed == of_the_charts("dashboards/*.json")


def test_every_alert_of_the_charts_is_in_the_kustomization() -> None:
    [kustomization] = resources(FOLDER / "alerts" / "kustomization.yaml")
    files = [(FOLDER / "alerts" / file).resolve() for file in kustomization["resources"]]
    assert set(files) == of_the_charts("alerts/*.yaml")
    rules = [rule for file in files for rule in resources(file)]
    assert len({rule["metadata"]["name"] for rule in rules}) == len(files)
    assert Definitions([make_prometheus(print)]).troubles(rules) == []


def test_the_operator_may_see_what_the_example_consumes(tmp_path: Path) -> None:
    """The page gives the user the rights that the example takes, beside those that it has for the services."""
    page = ROOT / "docs" / "howto" / "scale-consumers.md"
    [line] = [line for line in lines(page) if line.words[:4] == ["helm", "upgrade", "main", "charts/kafka"]]
    users = [one for one in yaml.safe_load_all(release_of(line, tmp_path)) if one and one["kind"] == "KafkaUser"]
    [user] = [one for one in users if one["metadata"]["name"] == "shop-lagscaler"]
    acls = user["spec"]["authorization"]["acls"]
    seen = {(acl["resource"]["type"], acl["resource"]["name"]) for acl in acls if "Describe" in acl["operations"]}

    [example] = resources(FOLDER / "operator" / "kafkaconsumer.yaml")
    spec = example["spec"]
    assert {("group", spec["group"]), *(("topic", topic) for topic in spec["topics"])} <= seen


def test_the_transition_is_in_the_place_of_the_charts_own_command_line(tmp_path: Path) -> None:
    install = ROOT / "docs" / "howto" / "install.md"
    values = tmp_path / "values.yaml"
    values.write_text(next(block.text for block in blocks(install) if block.directive == "file: shop-values.yaml"))
    release = list(rendered(render(find("shop"), [values], namespace="shop", release="shop")))
    [job] = resources(FOLDER / "examples" / "cutover-job.yaml")
    template = job["spec"]["template"]
    [own] = template["spec"]["containers"]
    theirs = next(one for one in release if one["metadata"]["name"] == "shop-cli" and one["kind"] == "Deployment")
    spec = theirs["spec"]["template"]["spec"]
    [command_line] = spec["containers"]
    for part in ("image", "workingDir", "envFrom", "env", "volumeMounts"):
        assert own[part] == command_line[part], part
    for part in ("volumes", "serviceAccountName"):
        assert template["spec"][part] == spec[part], part
    policies = [one["spec"] for one in release if one["kind"] == "NetworkPolicy"]
    labels = template["metadata"]["labels"].items()
    fitting = [one for one in policies if one["podSelector"]["matchLabels"].items() <= labels]
    assert any("egress" in one for one in fitting)
    # Else `kubectl exec deploy/shop-cli` might end up in it.
    assert not theirs["spec"]["selector"]["matchLabels"].items() <= labels


def test_every_file_stands_in_the_readme() -> None:
    linked = set(re.findall(r"\]\(([^)]+\.yaml)\)", (FOLDER / "README.md").read_text()))
    assert linked == {str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*.yaml")}
