"""
`python -m charts.readme`: write the charts' READMEs, by helm-docs, from their templates and values.

Values are described where they stand, by comments in `values.yaml` that begin with `# --`.
"""

import subprocess
from collections.abc import Sequence

import click

from charts.errors import ChartsError
from charts.render import Chart, charts, find, tool

__all__ = ["readme"]


def readme(chart: Chart) -> str:
    """Return what a chart's README has to be; raises ChartsError with helm-docs' own words when it refuses."""
    command = [tool("helm-docs"), "--dry-run", "--sort-values-order", "file"]
    command += ["--chart-search-root", str(chart.path.parent), "--chart-to-generate", str(chart.path)]
    outcome = subprocess.run(command, capture_output=True, text=True, check=False)
    if outcome.returncode or not outcome.stdout.strip():
        raise ChartsError(f"helm-docs makes no README of chart {chart.name}: {outcome.stderr.strip()}")
    return "\n".join(line.rstrip() for line in outcome.stdout.strip().splitlines()) + "\n"


@click.command(
    epilog="""\b
Examples:
  python -m charts.readme
  python -m charts.readme kafka --check

\b
Exit status: 0 done; 1 (--check) a README is not what it has to be; 2 wrong use, or helm-docs is not there."""
)
@click.argument("names", nargs=-1, metavar="[CHART]...")
@click.option("--check", is_flag=True, help="Change nothing, and say which READMEs are out of date.")
def main(names: Sequence[str], check: bool) -> None:
    """Write README.md of all charts, or of those that are named."""
    try:
        made = {chart: readme(chart) for chart in ([find(name) for name in names] or charts())}
    except ChartsError as failed:
        raise click.UsageError(str(failed)) from failed
    stale = {chart: text for chart, text in made.items() if _there(chart) != text}
    for chart, text in stale.items():
        if not check:
            (chart.path / "README.md").write_text(text)
        click.echo(f"{chart.path.name}/README.md {'is out of date' if check else 'was written'}")
    if check and stale:
        click.get_current_context().exit(1)


def _there(chart: Chart) -> str:
    file = chart.path / "README.md"
    return file.read_text() if file.is_file() else ""


if __name__ == "__main__":
    main(prog_name="python -m charts.readme")
