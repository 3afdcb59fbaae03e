"""The operator's policy against KEDA's Kafka scaler, on the same simulated loads."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from benchmarks.autoscaling import tables
from benchmarks.autoscaling.calibration import calibrate
from benchmarks.autoscaling.plot import draw
from benchmarks.autoscaling.report import Comparison, compare, fixed_by_place
from benchmarks.autoscaling.run import OURS, Run, Setting, fixed_all, keda_settings, simulate_all
from benchmarks.autoscaling.traces import DRAWS, KINDS, SETS, SetName
from benchmarks.view import progress

QUICK_THRESHOLDS = (10, 100, 500, 2000)
QUICK_SECONDS = 2400


def measure(set_name: SetName, *, quick: bool, jobs: int, pause: int | None = None) -> Comparison:
    """Simulate every setting on every trace of a set; `quick`: a third of each trace and few of KEDA's settings."""
    settings: list[Setting] = [OURS, *(keda_settings(QUICK_THRESHOLDS) if quick else keda_settings())]
    seconds = QUICK_SECONDS if quick else None
    draws = 1 if quick else DRAWS
    # Ours first: a run of it takes longer than KEDA's, and the last runs should be short ones.
    runs = [
        Run(set_name, trace.name, kind.name, setting, draw, pause, seconds)
        for setting in settings
        for trace in SETS[set_name].traces
        for kind in KINDS
        for draw in range(draws)
    ]
    with progress() as bar:
        shown = bar.add_task(set_name, total=len(runs) + len(runs) // len(settings))
        outcomes = simulate_all(runs, jobs, lambda: bar.advance(shown))
        ours = [one for one in outcomes if one.run.setting == OURS]
        numbers = fixed_all(ours, jobs, lambda: bar.advance(shown))
    return compare(set_name, outcomes, fixed_by_place(ours, numbers))


@click.command()
@click.option("--set", "set_name", type=click.Choice(["design", "evaluation"]), default="design", show_default=True)
@click.option("--quick", is_flag=True, help="A part of each trace and few settings: to see that it works.")
@click.option(
    "--jobs",
    type=click.IntRange(1),
    default=len(os.sched_getaffinity(0)),
    show_default="one for each core",
    help="Processes that simulate.",
)
@click.option("--pause", type=click.IntRange(1), help="Seconds that a rebalance takes, instead of the set's.")
@click.option("--calibrate", "calibrating", is_flag=True, help="Compare the simulated group with a real one instead.")
@click.option("--plot", type=click.Path(dir_okay=False, path_type=Path), help="Write the Pareto fronts there, as SVG.")
@click.option("--markdown", is_flag=True, help="Print the tables as Markdown.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object last.")
def main(
    set_name: SetName,
    quick: bool,
    jobs: int,
    pause: int | None,
    calibrating: bool,
    plot: Path | None,
    markdown: bool,
    as_json: bool,
) -> None:
    """
    Compare the operator's policy with KEDA's Kafka scaler and its autoscaler.

    Both scale simulated consumer groups through the same two hours of load: seconds of violated objective,
    replica-seconds, rebalances. KEDA runs with many thresholds and with the options that people turn to; ours has one
    setting. What a policy is shaped on is the design set; the evaluation set is for the figures alone.

    \b
    Examples:
      python -m benchmarks.autoscaler --quick
      python -m benchmarks.autoscaler --set evaluation --plot front.svg --json
      python -m benchmarks.autoscaler --calibrate
    """
    if calibrating:
        found = calibrate()
        tables.show_calibrations(found)
        if as_json:
            click.echo(json.dumps([asdict(one) | {"error": one.error} for one in found]))
        return
    comparison = measure(set_name, quick=quick, jobs=jobs, pause=pause)
    if markdown:
        click.echo(tables.markdown(comparison))
    else:
        tables.show(comparison)
    if plot is not None:
        plot.write_text(draw(comparison), encoding="utf-8")
    if as_json:
        document: dict[str, Any] = comparison.document()
        click.echo(json.dumps(document))


if __name__ == "__main__":
    main()
