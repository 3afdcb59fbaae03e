"""`taskbridge topics`: create what services need in Kafka."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from taskbridge.adapters.kafka.admin import KafkaAdmin, Seeding
from taskbridge.adapters.kafka.cluster import Start
from taskbridge.cli.context import pass_bridge

if TYPE_CHECKING:
    from taskbridge.contrib.django.wiring import Bridge


@click.command()
@click.argument("services", nargs=-1, metavar="[SERVICE]...")
@click.option(
    "--start",
    type=click.Choice(["earliest", "latest"]),
    help="Where a group without valid offsets begins in a partition that holds records.",
)
@click.option("--dry-run", is_flag=True, help="Say what is missing and change nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@pass_bridge
def topics(bridge: Bridge, services: tuple[str, ...], start: Start | None, dry_run: bool, as_json: bool) -> None:
    """
    Create missing topics, and give consumer groups their first offsets.

    Workers never guess where to begin, so a group without an offset would not start. A valid offset is never touched.
    Where a partition holds records already, only you can know whether they ran: say --start earliest to have them run,
    perhaps again, or --start latest to skip them.

    \b
    Exit status: 0 everything is as it should be; 2 something is not, or Kafka does not answer.

    \b
    Examples:
      taskbridge topics
      taskbridge topics orders --dry-run
    """
    admin = KafkaAdmin(bridge.settings)
    names = [bridge.settings.service(name).name for name in services] or sorted(bridge.settings.services)
    states = admin.ensure_topics(names, dry_run=dry_run)
    missing = {state.name for state in states if state.state == "missing"}
    seedings: list[Seeding] = []
    for name in names:
        # A group cannot be looked at before its topic is there.
        if not missing & {bridge.settings.topic(name), bridge.settings.shadow_topic(name)}:
            seedings.extend(admin.seed_offsets(name, start, dry_run=dry_run))
    if as_json:
        document = {
            "dry_run": dry_run,
            "topics": [asdict(state) for state in states],
            "groups": [asdict(seeding) for seeding in seedings],
        }
        click.echo(json.dumps(document))
        return
    for state in states:
        click.echo(f"topic {state.name}, {state.partitions} partitions: {state.state}")
    for seeding in seedings:
        verb = "needs" if dry_run else "was given"
        given = f"{verb} first offsets in {len(seeding.seeded)} partitions" if seeding.seeded else "ok"
        click.echo(f"group {seeding.group}: {given}")
