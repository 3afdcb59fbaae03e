"""`taskbridge audit`: who moved what, when and why."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from taskbridge.cli.context import pass_bridge
from taskbridge.cli.report import Moment
from taskbridge.contrib.django.history import transitions
from taskbridge.cutover import PERCENTAGES

if TYPE_CHECKING:
    from taskbridge.contrib.django.wiring import Bridge


@click.command()
@click.argument("service", required=False, default="")
@click.option("--since", type=Moment(), help="Only what happened since then: 15m, 2h, 7d or an ISO time.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="Newest rows shown.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
@pass_bridge
def audit(bridge: Bridge, service: str, since: float | None, limit: int, as_json: bool) -> None:
    """
    Show who moved what, when and why; the newest first.

    The database itself refuses to change or delete a row of it. Beside each transition stand the verdict that was known
    and whether it was overridden.

    \b
    Exit status: 0 shown, also when there is nothing; 2 wrong use, or the database does not answer.

    \b
    Examples:
      taskbridge audit
      taskbridge audit orders --since 7d --limit 100
      taskbridge audit orders --json
    """
    name = bridge.settings.service(service).name if service else ""
    after = datetime.fromtimestamp(since, UTC) if since is not None else None
    rows = transitions(bridge.store, name, after, limit)
    if as_json:
        click.echo(json.dumps({"transitions": rows}))
        return
    if not rows:
        click.echo("No transition yet.")
        return
    for row in rows:
        _print(row)


def _print(row: dict[str, Any]) -> None:
    at = datetime.fromisoformat(row["at"]).astimezone(UTC)
    way = f"{_stage(row['before'])} → {_stage(row['after'])}"
    click.echo(f"{at:%Y-%m-%d %H:%M:%S} UTC  {row['action']} {row['task'] or row['service']}  {way}")
    verdict = f"  [{row['verdict']['state']}{', overridden' if row['override'] else ''}]" if row["verdict"] else ""
    click.echo(f"    by {row['who']}{': ' if row['why'] else ''}{row['why']}{verdict}")


def _stage(flag: dict[str, Any]) -> str:
    percent = f" {flag['percent']:g}%" if flag["stage"] in PERCENTAGES else ""
    own = " (as its service)" if flag.get("cleared") else ""
    return f"{flag['stage']}{percent}{own}{', held' if flag['hold'] else ''}"
