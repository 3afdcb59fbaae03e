"""`taskbridge drain`: move what waits on one side of a service to the other."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from taskbridge.cli.context import pass_bridge
from taskbridge.contrib.django.drains import Drain, Drained, Side

if TYPE_CHECKING:
    from taskbridge.contrib.django.wiring import Bridge

LEFT = 3
"""Exit status when something of the service is left where it was."""

PLACES: dict[Side, str] = {"celery": "Celery's broker", "kafka": "Kafka"}


@click.command()
@click.argument("service")
@click.option("--to", type=click.Choice(["celery", "kafka"]), required=True, help="The side that gets the messages.")
@click.option("--dry-run", is_flag=True, help="Check everything, say how many messages would move, and move none.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option(
    "--timeout",
    type=click.FloatRange(1, 86_400),
    default=60.0,
    show_default=True,
    help="With celery: seconds without a record after which to give up. With kafka: seconds for the whole.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@pass_bridge
def drain(bridge: Bridge, service: str, to: Side, dry_run: bool, yes: bool, timeout: float, as_json: bool) -> None:
    """
    Move what waits on one side of a service to the other, under the same task ids.

    \b
    --to celery  after a rollback: records that nobody has executed go to Celery's broker, as they were dispatched.
                 Stop the service's workers first.
    --to kafka   at live 100% or complete: messages queued at Celery's broker (Redis) go to Kafka; those with an ETA
                 wait in the database. What Celery workers have fetched already stays with them.

    Neither is needed: workers finish what is on their side. It may be repeated, and killed at any time: nothing is
    lost. What was on its way then may be executed twice: with celery up to 200 records, with kafka one message.

    \b
    Exit status: 0 nothing is left; 1 not confirmed; 2 refused, wrong use, or a server that does not answer;
    3 moved what could be moved, and something is left.

    \b
    Examples:
      taskbridge drain orders --to celery --dry-run
      taskbridge drain orders --to kafka --yes
    """
    bridge.app.loader.import_default_modules()
    count = Drain(bridge, service).waiting(to)
    if dry_run:
        sentence = f"{count:,} messages of {service} would move to {PLACES[to]}. Nothing was moved (--dry-run)."
        click.echo(
            json.dumps({"service": service, "to": to, "dry_run": True, "movable": count}) if as_json else sentence
        )
        return
    if count and not yes:
        click.confirm(f"Move {count:,} messages of {service} to {PLACES[to]}?", abort=True, err=True)
    with _progress(count, as_json) as told:
        one = Drain(bridge, service, told)
        drained = one.to_celery(timeout) if to == "celery" else one.to_kafka(timeout)
    bridge.close()
    if as_json:
        click.echo(json.dumps({"service": service, "to": to, "dry_run": False, **asdict(drained)}))
    else:
        click.echo(_words(service, to, drained))
    if not drained.complete:
        click.get_current_context().exit(LEFT)


def _words(service: str, to: Side, drained: Drained) -> str:
    lines = [f"{drained.moved:,} messages of {service} moved to {PLACES[to]}."]
    if drained.delayed:
        lines.append(f"{drained.delayed:,} wait in the database for their ETA; the relay sends them.")
    if drained.dead:
        lines.append(f"{drained.dead:,} cannot be read and were dead-lettered.")
    if drained.outbox:
        lines.append(f"{drained.outbox:,} are in the outbox: run `taskbridge relay --once`, then drain again.")
    if drained.with_workers:
        lines.append(f"{drained.with_workers:,} are with Celery workers, which execute them when they are due.")
    if drained.unsupported:
        lines.append(f"{drained.unsupported:,} stay queued: only Celery can execute them (priority, pickle).")
    return "\n".join(lines)


@contextmanager
def _progress(total: int, quiet: bool) -> Iterator[Callable[[int], None]]:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=quiet or not sys.stderr.isatty()) as bar:
        task = bar.add_task("messages", total=total)
        yield lambda count: bar.advance(task, count)
