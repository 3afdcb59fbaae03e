"""What an API server says of the charts: every field is known to it, and every admission lets it pass."""

import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from charts.check import Finding
from charts.errors import ChartsError
from charts.render import Chart, Scenario, documents, render

__all__ = ["ApiServer"]

RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/warn": "restricted"}
"""Labels of the namespaces that the charts are made for."""

ESTABLISHED = "60s"

_RESOURCE = "customresourcedefinition.apiextensions.k8s.io"
"""What kubectl calls a definition, before its name."""

WARNINGS = ("PodSecurity", "deprecated", "unknown field")
"""Words of those warnings that are as good as a refusal, though it comes later, or to a pod."""


def _alone(item: dict[str, Any]) -> dict[str, Any]:
    """Return a resource as it can be judged before those beside it exist: of a bare pod they are looked up at once."""
    if item["kind"] != "Pod":
        return item
    looked_up = {"serviceAccountName", "priorityClassName"}
    return {**item, "spec": {key: value for key, value in item["spec"].items() if key not in looked_up}}


class ApiServer:
    """The cluster that `kubectl` talks to, which is changed no more than a check needs."""

    def __init__(self, kubectl: str) -> None:
        self._kubectl = kubectl

    def install_definitions(self, folders: Sequence[Path]) -> None:
        """
        Create the CustomResourceDefinitions that are missing, and wait until the server knows them.

        Those that are there stay as they are, for they are somebody's. Raises ChartsError.
        """
        known = set(self._run("get", "customresourcedefinitions", "--output", "name").split())
        files = (file for folder in folders for file in sorted(folder.glob("*.yaml")))
        found = {f"{_RESOURCE}/{one['metadata']['name']}": one for file in files for one in documents(file.read_text())}
        missing = {name: one for name, one in found.items() if name not in known}
        if missing:
            # A definition is too large for what `apply` would note of it without `--server-side`.
            self._run("apply", "--server-side", "--filename", "-", given=yaml.safe_dump_all(missing.values()))
            self._run("wait", "--for=condition=Established", f"--timeout={ESTABLISHED}", *missing)

    def check(self, chart: Chart, scenario: Scenario, namespace: str = "") -> Finding:
        """
        Have the server judge one scenario by a dry run, refusing fields that it does not know.

        A warning that a pod would not be admitted, or that something will be gone, is trouble as well. In `namespace`,
        that of the chart's name if it is empty, there must be no release: some fields of what exists cannot change.
        """
        own = namespace or chart.name
        try:
            manifests = render(chart, [scenario.values] if scenario.values else [], namespace=own)
            # By namespace, because kubectl takes one at a time.
            groups: dict[str, list[dict[str, Any]]] = {}
            for item in documents(manifests):
                groups.setdefault(item["metadata"].get("namespace", own), []).append(_alone(item))
            with self._namespaces(sorted(groups)):
                troubles = [trouble for name, items in groups.items() if (trouble := self._judged(name, items))]
        except ChartsError as error:
            troubles = [str(error)]
        return Finding(chart.name, "server", scenario.name, "\n".join(troubles))

    def _judged(self, namespace: str, items: Sequence[Mapping[str, Any]]) -> str:
        """Return what is wrong with resources of one namespace, or nothing."""
        manifests = yaml.safe_dump_all(items)
        command = ["apply", "--dry-run=server", "--validate=strict", "--namespace", namespace, "--filename", "-"]
        outcome = self._ask(*command, given=manifests)
        said = outcome.stderr.strip()
        if outcome.returncode:
            return said or "kubectl failed and did not say why"
        return "\n".join(line for line in said.splitlines() if any(word in line for word in WARNINGS))

    @contextmanager
    def _namespaces(self, names: Sequence[str]) -> Iterator[None]:
        """Make the namespaces that are missing, as the charts expect them, and remove those again."""
        made = []
        try:
            for name in names:
                if self._ask("get", "namespace", name).returncode:
                    manifest = {
                        "apiVersion": "v1",
                        "kind": "Namespace",
                        "metadata": {"name": name, "labels": RESTRICTED},
                    }
                    self._run("create", "--filename", "-", given=json.dumps(manifest))
                    made.append(name)
                    # Pods are refused until it is there.
                    wait = ["wait", "--for=create", "serviceaccount/default", f"--timeout={ESTABLISHED}"]
                    self._run(*wait, "--namespace", name)
            yield
        finally:
            if made:
                self._run("delete", "namespace", *made)

    def _run(self, *arguments: str, given: str = "") -> str:
        outcome = self._ask(*arguments, given=given)
        if outcome.returncode:
            raise ChartsError(f"`kubectl {' '.join(arguments)}` failed: {outcome.stderr.strip()}")
        return outcome.stdout

    def _ask(self, *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run([self._kubectl, *arguments], input=given, capture_output=True, text=True, check=False)
