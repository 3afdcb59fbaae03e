"""Figures for people, and progress while they are being taken."""

from __future__ import annotations

import json
from collections.abc import Mapping

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from benchmarks.measure import Findings


def progress() -> Progress:
    """Return a progress display on stderr, silent where that is no terminal."""
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )


def show(findings: Findings, words: Mapping[str, str], *, as_json: bool) -> None:
    """Print the table, each figure in its words where it has some, and with `as_json` the JSON object last."""
    console = Console()
    machine = findings.machine
    table = Table(
        title=f"{findings.benchmark}, {len(next(iter(findings.rounds.values())))} rounds", title_justify="left"
    )
    table.add_column("figure")
    for name in ("min", "median", "max"):
        table.add_column(name, justify="right")
    for name, spread in findings.spreads().items():
        style = "bold" if name in findings.headline else ""
        table.add_row(words.get(name, name), *map(_number, (spread.min, spread.median, spread.max)), style=style)
    console.print(table)
    click.echo(f"{machine.started}  {machine.cores} cores, {machine.processor}")
    click.echo(f"load average before {_loads(machine.load_before)}, after {_loads(machine.load_after)}")
    click.echo(", ".join(f"{name} {number}" for name, number in machine.versions.items()))
    if machine.is_busy:
        click.echo("the machine was busy before the run began: do not quote these figures", err=True)
    if as_json:
        click.echo(json.dumps(findings.document()))


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}" if abs(value) < 10 else f"{value:.1f}"


def _loads(loads: list[float]) -> str:
    return " ".join(f"{one:.2f}" for one in loads)
