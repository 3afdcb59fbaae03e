"""`taskbridge report`: do both sides agree?"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from taskbridge.adapters.kafka.observations import KafkaObservationLog
from taskbridge.cli.context import pass_bridge
from taskbridge.cli.report_view import show
from taskbridge.comparison import Fold, Question, build, to_json
from taskbridge.cutover import Flag
from taskbridge.exceptions import ConfigurationError, StoreUnavailable

if TYPE_CHECKING:
    from taskbridge.contrib.django.wiring import Bridge

DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|)")
UNITS = {"ms": 0.001, "": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}

SHOWN_FROM = 2_000
"""Records of the log from which reading it takes long enough for a progress bar."""


class Duration(click.ParamType[float]):
    """A duration such as `30`, `30s`, `15m`, `2h` or `1d`; converts to float seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        found = DURATION.fullmatch(str(value))
        if found is None:
            self.fail(f"{value!r} is not a duration; write 30s, 15m, 2h or 1d", param, ctx)
        return float(found[1]) * UNITS[found[2]]


class Moment(click.ParamType[float]):
    """A duration back from now, or an ISO time (UTC unless it says otherwise); converts to seconds since the epoch."""

    name = "duration|time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        if DURATION.fullmatch(str(value)):
            return time.time() - Duration().convert(value, param, ctx)
        try:
            moment = datetime.fromisoformat(str(value))
        except ValueError:
            self.fail(f"{value!r} is neither a duration (15m) nor an ISO time (2025-01-31T12:00:00Z)", param, ctx)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


@click.command()
@click.argument("services", nargs=-1, metavar="[SERVICE]...")
@click.option("--all", "every", is_flag=True, help="Report on every service of the settings.")
@click.option("--since", type=Moment(), help="Look only at what was observed since then: 15m, 2h or an ISO time.")
@click.option(
    "--horizon", type=Duration(), default="30s", show_default=True, help="Age from which what was not seen is missing."
)
@click.option("--task", metavar="PATTERN", help="Look only at tasks whose names match (* and ?).")
@click.option("--limit", type=click.IntRange(0), default=20, show_default=True, help="Findings listed per service.")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Also write the JSON document there.")
@click.option("--json", "as_json", is_flag=True, help="Print the JSON document, on one line, instead of tables.")
@pass_bridge
def report(
    bridge: Bridge,
    services: tuple[str, ...],
    every: bool,
    since: float | None,
    horizon: float,
    task: str | None,
    limit: int,
    output: Path | None,
    as_json: bool,
) -> None:
    """
    Compare what was dispatched with what either side did.

    Mirrored dispatches are compared with their copies; every other one must have run exactly once, on the side it was
    sent to. Each dispatch falls into one class, and the classes add up to what was dispatched.

    \b
    Exit status:
      0  AGREE         nothing contradicts what was dispatched
      1  DISAGREE      something is missing, repeated, different or on the wrong side
      2                wrong use or set-up, or a server that does not answer
      3  INSUFFICIENT  too little was observed to say anything
      4  INVALID       the counts do not add up

    \b
    Examples:
      taskbridge report orders
      taskbridge report orders payments --since 15m
      taskbridge report --all --json --output report.json
    """
    names = _names(bridge, services, every)
    # Before the end of the log is looked up: what is too young by this clock may be missing from what is read.
    until = time.time()
    folds = {name: Fold(name, task) for name in names}
    with _progress() as progress:
        log = KafkaObservationLog(bridge.settings, progress=progress)
        for batch in log.read_all(names, since):
            folds[batch.service].add(batch)
    question = Question(until, since, horizon, task, limit, log.malformed)
    document = build(list(folds.values()), question, _flags(bridge))
    if output is not None:
        _write(output, to_json(document))
    if as_json:
        click.echo(to_json(document))
    else:
        show(document, Console())
    click.get_current_context().exit(document["exit_code"])


def _names(bridge: Bridge, services: tuple[str, ...], every: bool) -> list[str]:
    if every and services:
        raise click.UsageError("name services or say --all, not both")
    if not every and not services:
        known = ", ".join(sorted(bridge.settings.services))
        raise click.UsageError(f"name at least one service ({known}), or say --all")
    return (
        sorted(bridge.settings.services) if every else sorted({bridge.settings.service(name).name for name in services})
    )


def _flags(bridge: Bridge) -> dict[str, Flag]:
    """Return the present flags; without the database the report stands, and goes by what was observed."""
    try:
        return {flag.service: flag for flag in bridge.store.flags_since(-1)}
    except StoreUnavailable as error:
        click.echo(f"note: the present stage is not known: {error}", err=True)
        return {}


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"the report could not be written to {path}: {error.strerror}") from error


@contextmanager
def _progress() -> Iterator[Any]:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("reading observations", total=None, visible=False)

        def advance(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total, visible=total >= SHOWN_FROM)

        yield advance
