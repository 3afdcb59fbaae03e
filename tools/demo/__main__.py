"""`python -m demo`, `python -m demo up`, `python -m demo down`."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import click
from rich.console import Console

from demo import standing
from demo.story import Story
from demo.system import DemoError, System, shop_environment
from devstack import DevstackError, Stack
from devstack.ports import free_port


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--seed", default=7, show_default=True, help="What customers, orders and faults follow from.")
@click.option("--rate", default=5.0, show_default=True, help="Actions of customers per second.")
@click.option("--pace", default=1.0, show_default=True, help="Stretch (or shorten) the time between the steps.")
@click.option("--faults", is_flag=True, help="Also kill an executor and a whole worker with SIGKILL on the way.")
@click.option("--keep", is_flag=True, help="Keep the logs also when all went well.")
@click.pass_context
def main(context: click.Context, seed: int, rate: float, pace: float, faults: bool, keep: bool) -> None:
    """
    Watch two services of the shop move from Celery to Kafka under load, and see it proved.

    \b
    Exit status: 0 everything ran exactly once (or a fault of the story explains it); 1 something did not;
    2 a server or process could not be started.

    \b
    Examples:
      python -m demo                   the story, about a minute
      python -m demo --seed 11 --faults
      python -m demo up                start the whole system and leave it running
      python -m demo down
    """
    if context.invoked_subcommand is not None:
        return
    console = Console()
    directory = Path(tempfile.mkdtemp(prefix="taskbridge-demo-"))
    began = time.monotonic()
    outcome = None
    try:
        with Stack(report=lambda text: console.print(f"[dim]{text}[/]")) as stack:
            system = System(shop_environment(stack.environment, directory), directory, os.getpid())
            try:
                story = Story(system, console, rate, seed, pace)
                story.prepare()
                story.tell(faults)
                story.judge()
                outcome = story.outcome
            finally:
                system.stop()
    except (DemoError, DevstackError) as error:
        console.print(f"[red]The demo could not go on:[/] {error}", highlight=False)
        console.print(f"Logs: {directory}", highlight=False)
        sys.exit(2)
    except KeyboardInterrupt:
        console.print(f"Stopped. Logs: {directory}", highlight=False)
        sys.exit(130)
    console.rule(f"{time.monotonic() - began:.0f} s", align="left")
    for problem in outcome.problems:
        console.print(f"[red]not ok:[/] {problem}", highlight=False)
    if outcome.problems or keep:
        console.print(f"Logs: {directory}", highlight=False)
    else:
        shutil.rmtree(directory, ignore_errors=True)
    if outcome.problems:
        sys.exit(1)
    console.print("[bold green]ok[/]")


@main.command()
@click.option("--seed", default=7, show_default=True, help="What the population follows from.")
def up(seed: int) -> None:
    """Start servers and shop in the background, and print where they are."""
    try:
        standing.up(Console(), seed, free_port())
    except (DemoError, DevstackError) as error:
        raise click.ClickException(str(error)) from error


@main.command()
def down() -> None:
    """End what `up` started, and remove its data."""
    try:
        standing.down(Console())
    except (DemoError, DevstackError) as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()
