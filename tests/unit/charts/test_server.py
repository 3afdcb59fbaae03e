"""Asking an API server, with a program in the place of kubectl."""

from __future__ import annotations

from pathlib import Path

import pytest

from charts import server
from charts.render import Chart, Scenario
from charts.server import ApiServer

MANIFESTS = """\
kind: ConfigMap
metadata: {name: here}
---
kind: ConfigMap
metadata: {name: there, namespace: shop}
---
kind: Pod
metadata: {name: test}
spec: {serviceAccountName: test, priorityClassName: high, containers: []}
"""

SCENARIO = Scenario("small", None)


@pytest.fixture(autouse=True)
def rendered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "render", lambda *_, **__: MANIFESTS)


class Kubectl:
    """A kubectl that writes down what it is told, knows the namespace `shop`, and says what a test wants."""

    def __init__(self, folder: Path, apply: str = "", definitions: str = "") -> None:
        self._told = folder / "told"
        self.program = folder / "kubectl"
        self.program.write_text(
            f'#!/bin/sh\necho "$@" >> {self._told}\ncase "$1" in\n'
            f'get) if [ "$2" = customresourcedefinitions ]; then printf "{definitions}"; else [ "$3" = shop ]; fi ;;\n'
            f"create|apply) cat >> {self._told}; {apply or ':'} ;;\nesac\n"
        )
        self.program.chmod(0o755)

    @property
    def told(self) -> str:
        return self._told.read_text()


def test_each_namespace_is_judged_and_only_a_missing_one_is_made(tmp_path: Path) -> None:
    kubectl = Kubectl(tmp_path)

    finding = ApiServer(str(kubectl.program)).check(Chart(tmp_path / "bread"), SCENARIO)

    assert finding.trouble == ""
    for namespace in ("bread", "shop"):
        assert f"apply --dry-run=server --validate=strict --namespace {namespace} --filename -" in kubectl.told
    assert '"name": "bread", "labels": {"pod-security.kubernetes.io/enforce": "restricted"' in kubectl.told
    assert "delete namespace bread\n" in kubectl.told
    assert "delete namespace bread shop" not in kubectl.told
    assert "serviceAccountName" not in kubectl.told
    assert "priorityClassName" not in kubectl.told


@pytest.mark.parametrize(
    ("says", "trouble"),
    [
        ("echo 'unknown field \"spec.a\"' >&2; exit 1", 'unknown field "spec.a"'),
        ("exit 1", "kubectl failed and did not say why"),
        ("echo 'Warning: would violate PodSecurity' >&2", "Warning: would violate PodSecurity"),
        ("echo 'Warning: x/v1beta1 is deprecated' >&2", "Warning: x/v1beta1 is deprecated"),
    ],
)
def test_what_a_server_says_is_trouble(tmp_path: Path, says: str, trouble: str) -> None:
    kubectl = Kubectl(tmp_path, says)

    assert ApiServer(str(kubectl.program)).check(Chart(tmp_path / "shop"), SCENARIO).trouble == trouble


def test_a_harmless_warning_is_none(tmp_path: Path) -> None:
    kubectl = Kubectl(tmp_path, "echo 'Warning: spec.SessionAffinity is ignored for headless services' >&2")

    assert ApiServer(str(kubectl.program)).check(Chart(tmp_path / "shop"), SCENARIO).trouble == ""


def definition(name: str) -> str:
    return f"kind: CustomResourceDefinition\nmetadata: {{name: {name}.example.org}}\n"


def test_only_definitions_that_are_missing_are_installed(tmp_path: Path) -> None:
    kubectl = Kubectl(tmp_path, definitions="customresourcedefinition.apiextensions.k8s.io/kafkas.example.org\\n")
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        folder.mkdir()
    (folders[0] / "kafkas.yaml").write_text(definition("kafkas"))
    (folders[0] / "topics.yaml").write_text(definition("topics"))
    (folders[1] / "both.yaml").write_text(f"{definition('kafkas')}---\n{definition('users')}")

    ApiServer(str(kubectl.program)).install_definitions(folders)

    assert "name: kafkas.example.org" not in kubectl.told
    for name in ("topics", "users"):
        assert f"name: {name}.example.org" in kubectl.told
    assert "--force-conflicts" not in kubectl.told
    assert kubectl.told.count("get customresourcedefinitions") == 1
    assert "wait --for=condition=Established" in kubectl.told


def test_where_no_definition_is_missing_nothing_is_installed(tmp_path: Path) -> None:
    kubectl = Kubectl(tmp_path, definitions="customresourcedefinition.apiextensions.k8s.io/kafkas.example.org\\n")
    (tmp_path / "kafkas.yaml").write_text(definition("kafkas"))

    ApiServer(str(kubectl.program)).install_definitions([tmp_path])

    assert kubectl.told == "get customresourcedefinitions --output name\n"


def test_a_namespace_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    kubectl = Kubectl(tmp_path, "echo 'you may not' >&2; exit 1")

    trouble = ApiServer(str(kubectl.program)).check(Chart(tmp_path / "bread"), SCENARIO).trouble

    assert trouble == "`kubectl create --filename -` failed: you may not"
