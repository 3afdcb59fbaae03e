"""`taskbridge check`: may a process start?"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.markup import escape

from taskbridge.adapters.celery.preflight import celery_lines
from taskbridge.adapters.kafka.preflight import Duty, KafkaPreflight
from taskbridge.checks import Line, Status, worst
from taskbridge.cli.context import pass_bridge

if TYPE_CHECKING:
    from taskbridge.contrib.django.wiring import Bridge

SCHEMA = "taskbridge.check/1"

PAUSE = 2.0
"""Seconds between the tests of --wait."""

_COLOURS = {Status.OK: "green", Status.WARN: "yellow", Status.FAIL: "red"}


@click.command()
@click.argument("services", nargs=-1, metavar="[SERVICE]...")
@click.option("--service", "named", multiple=True, metavar="NAME", help="The same as SERVICE.")
@click.option(
    "--for",
    "duty",
    type=click.Choice(["all", "dispatch", "worker", "shadow"]),
    default="all",
    show_default=True,
    help="What the process will do: only the rights that it needs are asked for.",
)
@click.option("--wait", type=click.FloatRange(0), metavar="SECONDS", help="Test again until nothing fails, so long.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@pass_bridge
def check(
    bridge: Bridge, services: tuple[str, ...], named: tuple[str, ...], duty: Duty, wait: float | None, as_json: bool
) -> None:
    """
    Test versions, servers, rights and topics, before a process starts.

    Nothing is created or changed. Each line is ok, warn (it works, but not well, or it could not be found out) or fail,
    with what to do about it. With --wait it fits into an init container: it ends as soon as nothing fails.

    \b
    Exit status: 0 nothing fails; 1 something does; 2 wrong use or set-up.

    \b
    Examples:
      taskbridge check
      taskbridge check orders --for worker --wait 120
      taskbridge check --json
    """
    chosen = [bridge.settings.service(name).name for name in (*services, *named)] or sorted(bridge.settings.services)
    deadline = time.monotonic() + (wait or 0.0)
    lines = gather(bridge, chosen, duty)
    while worst(lines) is Status.FAIL and time.monotonic() + PAUSE < deadline:
        first = next(line for line in lines if line.status is Status.FAIL)
        click.echo(f"waiting: {first.subject}: {first.detail}", err=True)
        time.sleep(PAUSE)
        lines = gather(bridge, chosen, duty)
    if as_json:
        document = {"schema": SCHEMA, "status": str(worst(lines)), "lines": [asdict(line) for line in lines]}
        click.echo(json.dumps(document))
    else:
        _show(lines, Console())
    if worst(lines) is Status.FAIL:
        click.get_current_context().exit(1)


def gather(bridge: Bridge, services: Sequence[str], duty: Duty) -> list[Line]:
    """Return everything that was tested; what cannot be reached is one line and never an error."""
    from taskbridge.contrib.django.preflight import database_lines, floor_lines, version_lines

    return [
        *version_lines(),
        *database_lines(bridge.store.sessions),
        *floor_lines(bridge.store, bridge.settings, services),
        # Whoever has one duty goes on while these are away: publishing to Celery is tried again, or told to the caller.
        *celery_lines(bridge.app, needed=duty == "all"),
        *KafkaPreflight(bridge.settings, services, duty).lines(),
    ]


def _show(lines: Sequence[Line], console: Console) -> None:
    for line in lines:
        mark = f"[{_COLOURS[line.status]}]{line.status:<4}[/]"
        console.print(f"{mark}  {escape(line.subject)}: {escape(line.detail)}", highlight=False, soft_wrap=True)
        if line.remedy:
            console.print(f"      -> {escape(line.remedy)}", highlight=False, soft_wrap=True)
    counts = {status: sum(line.status is status for line in lines) for status in Status}
    console.print(", ".join(f"{count} {status}" for status, count in counts.items()), highlight=False)
