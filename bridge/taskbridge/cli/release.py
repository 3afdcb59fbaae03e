"""`taskbridge release`: let a service that is held go forward again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from taskbridge.cli.context import pass_bridge
from taskbridge.cli.outcome import perform, user
from taskbridge.contrib.django.rules import Request

if TYPE_CHECKING:
    from taskbridge.contrib.django.wiring import Bridge


@click.command()
@click.argument("service")
@click.option("--task", default="", metavar="NAME", help="Release this task, which has a stage of its own.")
@click.option("--reason", default="", metavar="TEXT", help="Why; it stands in the audit.")
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as a JSON object.")
@pass_bridge
def release(bridge: Bridge, service: str, task: str, reason: str, as_json: bool) -> None:
    """
    Let a service that is held go forward again.

    \b
    Exit status: 0 released, or not held at all; 2 refused, wrong use, or the database does not answer.

    \b
    Examples:
      taskbridge release orders --reason "the sale is over"
    """
    perform(bridge, Request(service=service, action="release", task=task, who=user(), why=reason), as_json=as_json)
