"""Charts, their scenarios, and what Helm makes of them; no cluster is asked."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from charts.errors import ChartsError

__all__ = ["API_VERSIONS", "FOLDER", "Chart", "Scenario", "charts", "documents", "find", "render", "tool"]

FOLDER = Path(__file__).resolve().parents[2] / "charts"

API_VERSIONS = (
    "kafka.strimzi.io/v1/Kafka",
    "monitoring.coreos.com/v1/PodMonitor",
    "monitoring.coreos.com/v1/PrometheusRule",
    "monitoring.coreos.com/v1/ServiceMonitor",
    "taskbridge.dev/v1alpha1/Cutover",
    "taskbridge.dev/v1alpha1/KafkaConsumer",
)
"""What the clusters that the charts are rendered for know beside Kubernetes' own resources."""

_SUFFIX = "-values.yaml"


@dataclass(frozen=True, slots=True)
class Scenario:
    """One way to install a chart: a file `ci/NAME-values.yaml`, or, with no file, the chart's own values."""

    name: str
    values: Path | None


@dataclass(frozen=True, slots=True)
class Chart:
    """A folder with a chart."""

    path: Path

    @property
    def name(self) -> str:
        """The chart's name, which is that of its folder."""
        return self.path.name

    @property
    def scenarios(self) -> tuple[Scenario, ...]:
        """Every way to install it that the chart has a file for, by name."""
        files = sorted((self.path / "ci").glob(f"*{_SUFFIX}"))
        return tuple(Scenario(file.name.removesuffix(_SUFFIX), file) for file in files)

    def scenario(self, name: str) -> Scenario:
        """Return a scenario by name; raises ChartsError, naming those that there are."""
        for one in self.scenarios:
            if one.name == name:
                return one
        known = ", ".join(one.name for one in self.scenarios) or "none"
        raise ChartsError(f"chart {self.name} has no scenario {name!r} in ci/: there is {known}.")


def charts(folder: Path = FOLDER) -> tuple[Chart, ...]:
    """Return the charts of the project, by name."""
    return tuple(Chart(file.parent) for file in sorted(folder.glob("*/Chart.yaml")))


def find(name: str, folder: Path = FOLDER) -> Chart:
    """Return a chart by name; raises ChartsError, naming those that there are."""
    for one in charts(folder):
        if one.name == name:
            return one
    known = ", ".join(one.name for one in charts(folder)) or "none"
    raise ChartsError(f"there is no chart {name!r} in {folder}: there is {known}.")


@cache
def tool(name: str) -> str:
    """Return the path of a tool such as `helm`, built first if need be; raises ChartsError when it cannot be had."""
    outcome = subprocess.run(
        [sys.executable, "-m", "cluster", "tool", name], stdout=subprocess.PIPE, text=True, check=False
    )
    path = outcome.stdout.strip()
    if outcome.returncode or not path:
        raise ChartsError(f"{name} cannot be had: `python -m cluster tool {name}` says above why.")
    return path


def render(
    chart: Chart,
    values: Sequence[Path] = (),
    *,
    settings: Sequence[str] = (),
    namespace: str = "default",
    release: str = "",
    api_versions: Sequence[str] = API_VERSIONS,
) -> str:
    """
    Return the manifests that Helm renders; `settings` are `key=value`, as for `helm --set`.

    Raises ChartsError with Helm's own words when it refuses.
    """
    command = [tool("helm"), "template", release or chart.name, str(chart.path), "--namespace", namespace]
    for file in values:
        command += ["--values", str(file)]
    for setting in settings:
        command += ["--set", setting]
    for version in api_versions:
        command += ["--api-versions", version]
    outcome = subprocess.run(command, capture_output=True, text=True, check=False)
    if outcome.returncode:
        raise ChartsError(f"Helm does not render chart {chart.name}:\n{outcome.stderr.strip()}")
    return outcome.stdout


def documents(manifests: str) -> Iterator[dict[str, Any]]:
    """Yield the resources of a rendered chart."""
    for document in yaml.safe_load_all(manifests):
        if document is not None:
            yield document
