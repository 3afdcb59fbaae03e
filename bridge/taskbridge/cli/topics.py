"""`taskbridge topics`: create what services need in Kafka."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from taskbridge.adapters.kafka.admin import KafkaAdmin, Seeding
from taskbridge.adapters.kafka.cluster import Start
from taskbridge.cli.context import pass_bridge
from taskbridge.cli.strimzi import strimzi

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
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json", "strimzi"]),
    default="table",
    show_default=True,
    help="strimzi: print KafkaTopic resources, ask no Kafka and change nothing.",
)
@click.option("--cluster", metavar="NAME", help="With --format strimzi: the Kafka resource that the topics belong to.")
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@pass_bridge
def topics(
    bridge: Bridge,
    services: tuple[str, ...],
    start: Start | None,
    dry_run: bool,
    form: str,
    cluster: str | None,
    as_json: bool,
) -> None:
    """
    Create missing topics, and give consumer groups their first offsets.

    With --format strimzi nothing is created: the topics are printed as resources of the Strimzi operator, for those who
    let it create them. Then run the command once more without it, for the first offsets.

    Workers never guess where to begin, so a group without an offset would not start. A valid offset is never touched.
    Where a partition holds records already, only you can know whether they ran: say --start earliest to have them run,
    perhaps again, or --start latest to skip them.

    \b
    Exit status: 0 everything is as it should be; 2 something is not, or Kafka does not answer.

    \b
    Examples:
      taskbridge topics
      taskbridge topics orders --dry-run
      taskbridge topics --format strimzi --cluster main
    """
    admin = KafkaAdmin(bridge.settings)
    if form != "strimzi" and cluster is not None:
        raise click.UsageError("--cluster belongs to --format strimzi")
    names = [bridge.settings.service(name).name for name in services] or sorted(bridge.settings.services)
    if form == "strimzi":
        if not cluster:
            raise click.UsageError("--format strimzi needs --cluster NAME, the name of the Kafka resource")
        if start or dry_run or as_json:
            raise click.UsageError("--format strimzi only prints: leave out --start, --dry-run and --json")
        click.echo(strimzi(admin.topic_plan(names).values(), cluster), nl=False)
        return
    states = admin.ensure_topics(names, dry_run=dry_run)
    missing = {state.name for state in states if state.state == "missing"}
    seedings: list[Seeding] = []
    for name in names:
        # A group cannot be looked at before its topic is there.
        if not missing & {bridge.settings.topic(name), bridge.settings.shadow_topic(name)}:
            seedings.extend(admin.seed_offsets(name, start, dry_run=dry_run))
    if as_json or form == "json":
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
