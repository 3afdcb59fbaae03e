"""`taskbridge hold`: freeze a service where it is."""

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
@click.option("--task", default="", metavar="NAME", help="Hold this task, which has a stage of its own.")
@click.option("--reason", default="", metavar="TEXT", help="Why; it stands in the audit.")
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as a JSON object.")
@pass_bridge
def hold(bridge: Bridge, service: str, task: str, reason: str, as_json: bool) -> None:
    """
    Freeze a service at its stage: nobody can move it forward until it is released.

    Not even --override does; whoever tries is told who holds it since when. Back and kill go on working. Tasks of the
    service that have a stage of their own are held with it.

    \b
    Exit status: 0 held, or held already; 2 refused, wrong use, or the database does not answer.

    \b
    Examples:
      taskbridge hold orders --reason "sale until Monday"
      taskbridge hold orders --task shop.orders.tasks.export
    """
    perform(bridge, Request(service=service, action="hold", task=task, who=user(), why=reason), as_json=as_json)
