"""`taskbridge prune`: forget tasks with `once=True` that cannot be delivered again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from taskbridge.cli.context import pass_bridge
from taskbridge.cli.report import Duration
from taskbridge.exceptions import ConfigurationError

if TYPE_CHECKING:
    from taskbridge.contrib.django.wiring import Bridge


@click.command()
@click.option(
    "--older-than",
    type=Duration(),
    help="Age from which an execution is forgotten; by default, and at least, the longest retention of a topic.",
)
@click.option("--batch", type=click.IntRange(1, 100_000), default=5_000, show_default=True, help="Rows per deletion.")
@click.option("--dry-run", is_flag=True, help="Count, and delete nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@pass_bridge
def prune(bridge: Bridge, older_than: float | None, batch: int, dry_run: bool, as_json: bool) -> None:
    """
    Delete old rows from the ledger of tasks with once=True.

    A record that is delivered again is recognised by its row, so rows are kept for as long as any topic keeps records.
    Run it once a day.

    \b
    Exit status: 0 done; 2 wrong use or set-up, or the database does not answer.

    \b
    Examples:
      taskbridge prune
      taskbridge prune --older-than 30d --dry-run
    """
    service = max(bridge.settings.services.values(), key=lambda one: one.retention)
    age = service.retention if older_than is None else older_than
    if age < service.retention:
        raise ConfigurationError(
            f"--older-than is shorter than the retention of {service.name} ({service.retention / 86400:g} days): a "
            f"record that is delivered again could take effect again; give at least that"
        )
    count = bridge.ledger.expired(age) if dry_run else sum(bridge.ledger.prune(age, batch))
    if as_json:
        click.echo(json.dumps({"deleted": 0 if dry_run else count, "expired": count, "older_than": age}))
    else:
        click.echo(f"{'would delete' if dry_run else 'deleted'} {count:,} rows older than {age / 86400:g} days")
