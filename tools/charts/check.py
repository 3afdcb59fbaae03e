"""What Helm, the charts' own tests and kube-score say of the charts; no cluster is asked."""

import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from charts.errors import ChartsError
from charts.render import Chart, Scenario, render, tool

__all__ = ["KUBERNETES", "Finding", "check", "lint", "score", "unittest"]

KUBERNETES = "v1.34"
"""The version of Kubernetes that manifests are judged for."""

SETTLED = ("--ignore-container-cpu-limit", "--ignore-test", "container-image-pull-policy")
"""What is meant so: a CPU limit slows down a pod on an idle node, and an exact tag need not be pulled again."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was checked; `trouble` is empty when it is as it should be."""

    chart: str
    check: str
    scenario: str
    trouble: str = ""


def check(chart: Chart) -> Iterator[Finding]:
    """Yield what is found: per scenario, and once for the chart's own tests."""
    for scenario in chart.scenarios:
        yield lint(chart, scenario)
        yield score(chart, scenario)
    yield unittest(chart)


def lint(chart: Chart, scenario: Scenario) -> Finding:
    """Have `helm lint` look at one scenario, taking its warnings for errors."""
    command = [tool("helm"), "lint", "--strict", "--quiet", str(chart.path)]
    return _judged(chart, "lint", scenario.name, [*command, *_values(scenario)])


def unittest(chart: Chart) -> Finding:
    """Run the chart's own suites, `tests/*_test.yaml`; a chart without any is not right."""
    if not any((chart.path / "tests").glob("*_test.yaml")):
        return Finding(chart.name, "unittest", "", f"{chart.path}/tests holds no *_test.yaml")
    return _judged(chart, "unittest", "", [tool("helm-unittest"), "--strict", str(chart.path)])


def score(chart: Chart, scenario: Scenario) -> Finding:
    """Have kube-score judge what is rendered; what it calls critical is trouble."""
    try:
        manifests = render(chart, [scenario.values] if scenario.values else [])
    except ChartsError as error:
        return Finding(chart.name, "kube-score", scenario.name, str(error))
    command = [tool("kube-score"), "score", "--kubernetes-version", KUBERNETES, "--output-format", "ci", *SETTLED, "-"]
    return _judged(chart, "kube-score", scenario.name, command, manifests)


def _values(scenario: Scenario) -> list[str]:
    return ["--values", str(scenario.values)] if scenario.values else []


def _judged(chart: Chart, what: str, scenario: str, command: Sequence[str], given: str = "") -> Finding:
    outcome = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
    trouble = (outcome.stdout + outcome.stderr).strip() if outcome.returncode else ""
    if outcome.returncode and not trouble:
        trouble = f"{command[0]} ended with status {outcome.returncode}"
    return Finding(chart.name, what, scenario, trouble)
