"""`taskbridge init`: settings for a project that has none."""

from __future__ import annotations

from pathlib import Path

import click

from taskbridge.cli.scan import look
from taskbridge.exceptions import ConfigurationError
from taskbridge.scan.modules import shown_path
from taskbridge.scan.services import service_name
from taskbridge.scan.snippet import snippet
from taskbridge.settings import Settings


@click.command()
@click.argument("paths", nargs=-1, metavar="[PATH]...", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--source",
    "sources",
    multiple=True,
    metavar="DIR",
    type=click.Path(exists=True, path_type=Path),
    help="Read only the source below DIR and import nothing, whatever -A says.",
)
@click.option(
    "--by",
    type=click.Choice(["queue", "package"]),
    default="queue",
    show_default=True,
    help="What makes tasks one service; those of the default queue always go by package.",
)
@click.option("--prefix", metavar="NAME", help="First part of topic and group names; else the app's name.")
@click.option(
    "--write", "target", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path), help="Write it to a new file."
)
@click.option("--force", is_flag=True, help="With --write: replace the file if it is there.")
@click.pass_context
def init(
    context: click.Context,
    paths: tuple[Path, ...],
    sources: tuple[Path, ...],
    by: str,
    prefix: str | None,
    target: Path | None,
    force: bool,
) -> None:
    """
    Write the settings that a scan of the project suggests.

    Python source that defines TASKBRIDGE, on standard output or in the file that --write names, which is never replaced
    without --force. Nothing else is changed: what to do with it is said.

    \b
    Exit status: 0 written; 2 wrong use, the file is there, or the app cannot be loaded.

    \b
    Examples:
      taskbridge -A mysite init
      taskbridge -A mysite init --write mysite/bridge_settings.py
      taskbridge init --source . --by package --prefix mysite
    """
    if force and target is None:
        raise click.UsageError("--force belongs to --write FILE")
    if target is not None and target.exists() and not force:
        raise ConfigurationError(f"{target} is there already: name another file, or replace it with --force")
    result = look(None if sources else context.obj, [*paths, *sources], by=by)
    name = prefix or service_name(result.app.name if result.app is not None else Path.cwd().name)
    text = snippet(result, name)
    # What is handed out must be what the bridge accepts.
    mapping = {"prefix": name, "services": {service.name: result.mapping(service) for service in result.services}}
    Settings.from_mapping(mapping, {"KAFKA_BOOTSTRAP_SERVERS": "-"})
    if target is None:
        click.echo(text, nl=False)
        return
    try:
        target.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"the settings could not be written to {target}: {error.strerror}") from error
    module = shown_path(target.resolve()).removesuffix(".py").replace("/", ".")
    click.echo(f"{target}: {len(result.services)} services, {len(result.tasks)} tasks")
    click.echo("Next, in Django's settings:")
    click.echo('    INSTALLED_APPS = [..., "taskbridge.contrib.django"]')
    click.echo(f"    from {module} import TASKBRIDGE")
    click.echo("and where the Celery app is made:")
    click.echo("    taskbridge.install(app)")
