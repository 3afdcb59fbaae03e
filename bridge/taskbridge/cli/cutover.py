"""`taskbridge cutover`: move a service, or one task of it, to a stage."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from taskbridge.cli.context import pass_bridge
from taskbridge.cli.outcome import perform, refuse_percent, user
from taskbridge.contrib.django.rules import Request
from taskbridge.cutover import Stage, target

if TYPE_CHECKING:
    from taskbridge.contrib.django.wiring import Bridge


@click.command()
@click.argument("service")
@click.argument("stage", metavar="[off|mirror|shadow|live|complete|clear]")
@click.option(
    "--percent",
    type=float,
    metavar="P",
    help="With live: percentage of keys that go to Kafka (0.01 to 100). With shadow: of those whose copies are marked.",
)
@click.option("--task", default="", metavar="NAME", help="Move this task only; `clear` lets the service decide again.")
@click.option("--override", is_flag=True, help="Go although conditions are not met that may be lifted; needs --reason.")
@click.option("--reason", default="", metavar="TEXT", help="Why; it stands in the audit.")
@click.option("--expect-epoch", type=int, metavar="N", help="Refuse unless the flag is still in this epoch.")
@click.option("--dry-run", is_flag=True, help="Check everything, show every condition, and change nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as a JSON object.")
@pass_bridge
def cutover(
    bridge: Bridge,
    service: str,
    stage: str,
    percent: float | None,
    task: str,
    override: bool,
    reason: str,
    expect_epoch: int | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """
    Move a service to another stage.

    \b
    off       every message goes to Celery
    mirror    every message goes to Celery, and a copy of it to Kafka for comparison
    shadow    as mirror, with copies of P percent of the keys marked; executes nothing yet
    live      the messages of P percent of the keys go to Kafka, the others to Celery
    complete  every message goes to Kafka; Celery's broker is not needed any more

    Forward leads one stage and one rung (1, 5, 25, 50, 100 %) at a time (shadow may be passed over) and, from mirror
    on, needs a READY verdict; --override with a --reason lifts that, and both stand in the audit. No verdict of this
    version says READY. Back leads anywhere, at once. On the way forward missing topics are created, the consumer
    groups get their first offsets, and what the worker does not support yet is refused by name. All processes follow
    within a second or so.

    \b
    Exit status: 0 moved, or there already; 2 refused, wrong use, or a server that does not answer.

    \b
    Examples:
      taskbridge cutover orders mirror
      taskbridge cutover orders live --percent 1 --dry-run
      taskbridge cutover orders live --percent 10 --override --reason "compared for a week"
      taskbridge cutover orders mirror --task shop.orders.tasks.export
      taskbridge cutover orders clear --task shop.orders.tasks.export
      taskbridge cutover orders off
    """
    clear = stage == "clear"
    if clear:
        refuse_percent(percent)
    wanted = None if clear else Stage.parse(stage)
    request = Request(
        service=service,
        action="clear" if clear else "move",
        stage=wanted,
        basis_points=target(wanted, percent) if wanted else 0,
        task=task,
        who=user(),
        why=reason,
        override=override,
        expected_epoch=expect_epoch,
    )
    perform(bridge, request, dry_run=dry_run, as_json=as_json)
