"""The `taskbridge` command."""

from __future__ import annotations

import sys

import click

from taskbridge import __version__
from taskbridge.exceptions import TaskbridgeError

COMMANDS = {
    "check": "Test versions, servers, rights and topics before a process starts.",
    "init": "Write settings for a project that has none.",
    "scan": "Say what a project's tasks use of Celery, and what moving them means.",
    "audit": "Show who moved what, when and why.",
    "cutover": "Move a service to another stage.",
    "delayed": "List and cancel messages that are not due yet.",
    "drain": "Move what waits on one side of a service to the other.",
    "hold": "Freeze a service where it is.",
    "kill": "Bring services back to Celery, in one step.",
    "metrics": "Serve what other processes count, for Prometheus.",
    "prune": "Forget tasks with once=True that cannot be delivered again.",
    "relay": "Publish delayed and pending messages when they are due.",
    "release": "Let a service that is held go forward again.",
    "report": "Compare what both sides did.",
    "status": "Show every service's stage, lag and pending messages.",
    "topics": "Create what is missing of topics and group offsets.",
    "worker": "Run a service's tasks from Kafka.",
}


class LazyGroup(click.Group):
    """Imports a command's module when the command is asked for, so that `--help` and typos cost nothing."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Return the commands' names."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:  # noqa: ARG002
        """Return a command, or None when there is none of that name."""
        if name not in COMMANDS:
            return None
        module = __import__(f"taskbridge.cli.{name}", fromlist=[name])
        command: click.Command = getattr(module, name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(sorted(COMMANDS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "-A",
    "--app",
    envvar="TASKBRIDGE_APP",
    metavar="MODULE[:NAME]",
    help="The Celery application, as for `celery -A`.  [env: TASKBRIDGE_APP]",
)
@click.version_option(__version__, prog_name="taskbridge")
@click.pass_context
def cli(context: click.Context, app: str | None) -> None:
    """
    Move Celery tasks onto Kafka, one service at a time.

    \b
    Examples:
      taskbridge -A shop.config.celery scan
      taskbridge -A shop.config.celery status
      taskbridge -A shop.config.celery cutover orders mirror
      taskbridge -A shop.config.celery worker --service orders --processes 2
      taskbridge -A shop.config.celery report orders --since 15m
    """
    context.obj = app


def main() -> None:
    """Run the command; a user's mistake ends in one sentence and status 2."""
    try:
        cli(standalone_mode=True)
    except TaskbridgeError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2)
