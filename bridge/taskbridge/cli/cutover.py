"""`taskbridge cutover`: move one service to a stage."""

from __future__ import annotations

import getpass
import json
import shlex
import socket
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import click

from taskbridge.adapters.celery.features import tasks_of, unsupported
from taskbridge.adapters.kafka.admin import KafkaAdmin
from taskbridge.cli.context import pass_bridge
from taskbridge.contrib.django.transition import Change, plan, read_flag, transition
from taskbridge.cutover import Flag, Stage, is_forward, target

if TYPE_CHECKING:
    from taskbridge.contrib.django.wiring import Bridge


@click.command()
@click.argument("service")
@click.argument("stage", metavar="[off|mirror|live]")
@click.option(
    "--percent", type=float, metavar="P", help="With live: percentage of keys that go to Kafka (0.01 to 100)."
)
@click.option("--reason", default="", metavar="TEXT", help="Why; it stands in the audit.")
@click.option("--dry-run", is_flag=True, help="Check everything and change nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as a JSON object.")
@pass_bridge
def cutover(
    bridge: Bridge, service: str, stage: str, percent: float | None, reason: str, dry_run: bool, as_json: bool
) -> None:
    """
    Move a service to another stage.

    \b
    off      every message goes to Celery
    mirror   every message goes to Celery, and a copy of it to Kafka for comparison
    live     the messages of P percent of the keys go to Kafka, the others to Celery

    Forward leads through mirror; back leads anywhere, at once. On the way forward missing topics are created, the
    consumer groups get their first offsets, and what the worker does not support yet is refused by name. All processes
    follow within a second or so.

    \b
    Exit status: 0 moved, or there already; 2 refused, wrong use, or a server that does not answer.

    \b
    Examples:
      taskbridge cutover orders mirror
      taskbridge cutover orders live --percent 10 --reason "first customers"
      taskbridge cutover orders off
    """
    wanted = Stage.parse(stage)
    basis_points = target(wanted, percent)
    before = read_flag(bridge.store, bridge.settings, service)

    def objections() -> Sequence[str]:
        bridge.app.loader.import_default_modules()
        tasks = tasks_of(bridge.app, bridge.settings, service)
        return [str(finding) for finding in unsupported(bridge.app, tasks)]

    preparations: dict[str, Any] = {}
    change = Change(before, before)
    if plan(before, wanted, basis_points, objections):
        if is_forward(before, wanted, basis_points):
            preparations = _prepare(bridge, service, dry_run)
        if dry_run:
            change = Change(before, replace(before, stage=wanted, basis_points=basis_points, epoch=before.epoch + 1))
        else:
            change = transition(
                bridge.store,
                bridge.settings,
                service,
                wanted,
                basis_points,
                who=f"{getpass.getuser()}@{socket.gethostname()}",
                why=reason,
                expected_epoch=before.epoch,
            )
    if as_json:
        click.echo(json.dumps(_document(change, preparations, dry_run)))
    else:
        _tell(bridge, change, preparations, dry_run)


def _prepare(bridge: Bridge, service: str, dry_run: bool) -> dict[str, Any]:
    """Create what a service needs in Kafka before the first record; return what was missing."""
    admin = KafkaAdmin(bridge.settings)
    topics = [state for state in admin.ensure_topics([service], dry_run=dry_run) if state.state != "ok"]
    # A group cannot be looked at before its topic is there.
    seeded = [] if dry_run and topics else admin.seed_offsets(service, dry_run=dry_run)
    return {
        "topics": [asdict(state) for state in topics],
        "offsets": [asdict(seeding) for seeding in seeded if seeding.seeded],
    }


def describe(flag: Flag) -> str:
    """Return a stage as people write it: `mirror`, `live 10%`."""
    return f"live {flag.basis_points / 100:g}%" if flag.stage is Stage.LIVE else str(flag.stage)


def command(flag: Flag) -> str:
    """Return the command that brings a service to the stage of `flag`."""
    percent = f" --percent {flag.basis_points / 100:g}" if flag.stage is Stage.LIVE else ""
    return f"taskbridge cutover {shlex.quote(flag.service)} {flag.stage}{percent}"


def _way_back(change: Change) -> str:
    """Return the command that undoes a change, as far as one command can."""
    before, after = change.before, change.after
    stages = list(Stage)
    reachable = stages.index(before.stage) <= stages.index(after.stage) + 1
    if reachable:
        return command(before)
    return command(replace(before, stage=stages[stages.index(after.stage) + 1], basis_points=0))


def _document(change: Change, preparations: dict[str, Any], dry_run: bool) -> dict[str, Any]:
    moved = change.after != change.before
    return {
        "service": change.before.service,
        "changed": moved and not dry_run,
        "dry_run": dry_run,
        "before": _state(change.before),
        "after": _state(change.after),
        "created": preparations,
        "rollback": _way_back(change) if moved else None,
    }


def _state(flag: Flag) -> dict[str, Any]:
    return {"stage": str(flag.stage), "percent": flag.basis_points / 100, "epoch": flag.epoch}


def _tell(bridge: Bridge, change: Change, preparations: dict[str, Any], dry_run: bool) -> None:
    before, after = change.before, change.after
    service = before.service
    if before == after:
        click.echo(f"{service} is {describe(before)} already; nothing changed.")
        return
    for topic in preparations.get("topics", []):
        click.echo(f"topic {topic['name']}, {topic['partitions']} partitions: {topic['state']}")
    for seeding in preparations.get("offsets", []):
        verb = "needs" if dry_run else "was given"
        click.echo(f"group {seeding['group']} {verb} first offsets in {len(seeding['seeded'])} partitions")
    would = "would go" if dry_run else "went"
    click.echo(
        f"{service} {would} from {describe(before)} to {describe(after)} (epoch {before.epoch} -> {after.epoch})"
    )
    click.echo()
    click.echo(_next(bridge, after))
    forward = is_forward(before, after.stage, after.basis_points)
    click.echo(f"{'Roll back' if forward else 'Forward again'}:  {_way_back(change)}")
    if dry_run:
        click.echo("Nothing was changed (--dry-run).")


def _next(bridge: Bridge, after: Flag) -> str:
    service, settings = shlex.quote(after.service), bridge.settings
    follow = f"Every process follows within {settings.flag_max_age:g} s."
    if after.stage is Stage.MIRROR:
        return (
            f"{follow} Celery executes every message; {settings.shadow_topic(after.service)} gets a copy of each.\n"
            f"Compare:    taskbridge worker --service {service} --role shadow\n"
            f"            taskbridge report {service}"
        )
    if after.stage is Stage.LIVE:
        share = "every key" if after.basis_points == 10_000 else f"{after.basis_points / 100:g}% of the keys"
        return (
            f"{follow} Messages of {share} go to {settings.topic(after.service)}"
            f"{'' if after.basis_points == 10_000 else ', the others to Celery'}.\n"
            f"Execute:    taskbridge worker --service {service}\n"
            f"            taskbridge relay\n"
            f"Judge:      taskbridge report {service}"
        )
    return (
        f"{follow} Celery executes every message that is sent from then on.\n"
        f"Leave the service's workers running until its lag is 0: taskbridge status {service}"
    )
