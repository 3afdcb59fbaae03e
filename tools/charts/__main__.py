"""`python -m charts`: look at the Helm charts as their users' tools will."""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import wraps
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from charts.check import Finding
from charts.check import check as check_chart
from charts.errors import ChartsError
from charts.own import write_definitions
from charts.render import Chart, charts, find, render, tool
from charts.server import ApiServer
from crds.errors import CrdsError
from crds.prometheus import make_prometheus
from crds.strimzi import make_strimzi


def _one_sentence(command: Callable[..., Any]) -> Callable[..., Any]:
    """Turn what a user can mend into a message without a traceback, and exit status 2."""

    @wraps(command)
    def run(*arguments: Any, **options: Any) -> Any:
        try:
            return command(*arguments, **options)
        except (ChartsError, CrdsError) as failed:
            raise click.UsageError(str(failed)) from failed

    return run


def _say(line: str) -> None:
    click.echo(line, err=True)


@click.group(
    epilog="""\b
Examples:
  python -m charts check
  python -m charts render kafka dev

\b
Exit status: 0 as it should be; 1 something is not right; 2 wrong use, or a tool or a cluster is not there."""
)
def main() -> None:
    """Check and render the charts in charts/, every scenario that has a file in their ci/."""


@main.command(
    epilog="""\b
Examples:
  python -m charts check
  python -m charts check kafka --json
  KUBECONFIG=... python -m charts check --server"""
)
@click.argument("names", nargs=-1, metavar="[CHART]...")
@click.option(
    "--server",
    is_flag=True,
    help="Also ask the API server of KUBECONFIG, by a dry run; the definitions that it lacks are installed there.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@_one_sentence
def check(names: tuple[str, ...], server: bool, as_json: bool) -> None:
    """Run helm lint, the charts' own tests and kube-score, for all charts or those that are named."""
    chosen = [find(name) for name in names] or list(charts())
    findings = []
    for finding in _findings(chosen, server):
        findings.append(finding)
        if not as_json:
            _show(finding)
    wrong = sum(bool(finding.trouble) for finding in findings)
    if as_json:
        click.echo(json.dumps({"findings": [asdict(finding) for finding in findings]}))
    else:
        click.echo(f"{len(findings)} checks of {len(chosen)} charts, {wrong} found something.")
    if wrong:
        click.get_current_context().exit(1)


def _findings(chosen: list[Chart], server: bool) -> Iterator[Finding]:
    for chart in chosen:
        yield from check_chart(chart)
    if not server:
        return
    if not os.environ.get("KUBECONFIG"):
        raise ChartsError("--server asks the cluster of KUBECONFIG, which is not set: export it, or leave it out.")
    api = ApiServer(tool("kubectl"))
    with TemporaryDirectory() as folder:
        api.install_definitions([make_strimzi(_say), make_prometheus(_say), write_definitions(Path(folder))])
    for chart in chosen:
        for scenario in chart.scenarios:
            yield api.check(chart, scenario)


def _show(finding: Finding) -> None:
    place = f"{finding.chart} {finding.scenario}".strip()
    click.echo(f"{'FAIL' if finding.trouble else 'ok  '}  {finding.check}: {place}")
    for line in finding.trouble.splitlines():
        click.echo(f"      {line}")


@main.command(
    "render",
    epilog="""\b
Examples:
  python -m charts render kafka production
  python -m charts render kafka dev --namespace kafka --set topics.prefix=bakery""",
)
@click.argument("chart")
@click.argument("scenario", required=False)
@click.option("--namespace", default="default", show_default=True, help="Namespace of the release.")
@click.option("--release", default="", metavar="NAME", help="Name of the release.  [default: that of the chart]")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="As for `helm --set`.")
@click.option("--values", type=click.Path(exists=True, dir_okay=False, path_type=Path), multiple=True)
@_one_sentence
def render_command(
    chart: str, scenario: str | None, namespace: str, release: str, settings: tuple[str, ...], values: tuple[Path, ...]
) -> None:
    """Print the manifests of one scenario, or of the chart's own values, for a cluster that knows all resources."""
    chosen = find(chart)
    files = list(values)
    if scenario and (file := chosen.scenario(scenario).values):
        files.insert(0, file)
    click.echo(render(chosen, files, settings=settings, namespace=namespace, release=release), nl=False)


if __name__ == "__main__":
    main(prog_name="python -m charts")
