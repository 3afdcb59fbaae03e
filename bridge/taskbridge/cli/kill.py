"""`taskbridge kill`: back to Celery in one step."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from taskbridge.cli.context import pass_bridge
from taskbridge.cli.outcome import user
from taskbridge.contrib.django.documents import done_document
from taskbridge.contrib.django.moves import carry_out
from taskbridge.contrib.django.rules import Request, words
from taskbridge.exceptions import TaskbridgeError

if TYPE_CHECKING:
    from taskbridge.contrib.django.wiring import Bridge

FAILED = 2


@click.command()
@click.argument("services", nargs=-1, metavar="[SERVICE]...")
@click.option("--all", "every", is_flag=True, help="Kill every service of the settings.")
@click.option("--reason", default="", metavar="TEXT", help="Why; it stands in the audit.")
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as a JSON object.")
@pass_bridge
def kill(bridge: Bridge, services: tuple[str, ...], every: bool, reason: str, as_json: bool) -> None:
    """
    Bring services back to Celery, in one step, from any stage.

    Every message that is sent from then on goes to Celery, also of tasks that had a stage of their own. Nothing stands
    against it: no verdict is asked for, no hold stops it, and Kafka need not answer. What Kafka holds already is still
    executed there, so leave the workers running until the lag is 0.

    \b
    Exit status: 0 all of them are off; 2 wrong use, or one could not be killed, which is named; the others are.

    \b
    Examples:
      taskbridge kill orders --reason "payments are charged twice"
      taskbridge kill --all --reason "Kafka is being moved"
    """
    if every == bool(services):
        known = ", ".join(sorted(bridge.settings.services))
        raise click.UsageError(f"name at least one service ({known}), or say --all")
    outcomes, failures = [], []
    for service in sorted(bridge.settings.services) if every else services:
        try:
            done = carry_out(bridge, Request(service=service, action="kill", who=user(), why=reason))
        except TaskbridgeError as error:
            failures.append(str(error))
            continue
        outcomes.append(done_document(done))
        if not as_json:
            was = words(done.change.before)
            also = f"; so are {', '.join(done.change.cleared)}" if done.change.cleared else ""
            click.echo(f"{service} is off{'' if was == 'off' else f', and was {was}'}{also}")
    if as_json:
        click.echo(json.dumps({"killed": outcomes, "failures": failures}))
    elif outcomes:
        click.echo()
        click.echo(
            f"Every process follows within {bridge.settings.flag_max_age:g} s. Leave the workers running until the lag"
            " is 0: taskbridge status"
        )
    for failure in failures:
        click.echo(f"error: {failure}", err=True)
    if failures:
        click.get_current_context().exit(FAILED)
