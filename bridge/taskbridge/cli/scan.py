"""`taskbridge scan`: what moving a project's tasks would mean."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from taskbridge.cli.context import load_app
from taskbridge.cli.scan_view import show
from taskbridge.exceptions import ConfigurationError
from taskbridge.scan import Level, Result, document, judge, read, survey, tasks

if TYPE_CHECKING:
    from taskbridge.scan import App

SHOWN_FROM = 200
"""Files from which reading them takes long enough for a progress bar."""

FAIL_ON = {"stops": (Level.STOPS,), "differs": (Level.STOPS, Level.DIFFERS), "never": ()}
"""The levels of findings for which the command ends with status 1."""


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
@click.option("--service", "services", multiple=True, metavar="NAME", help="Show only these services.")
@click.option(
    "--fail-on",
    type=click.Choice(list(FAIL_ON)),
    default="stops",
    show_default=True,
    help="Findings for which the command ends with status 1.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
@click.pass_context
def scan(
    context: click.Context,
    paths: tuple[Path, ...],
    sources: tuple[Path, ...],
    by: str,
    services: tuple[str, ...],
    fail_on: str,
    as_json: bool,
) -> None:
    """
    Say what a project's tasks use of Celery, and what moving them to Kafka means.

    With -A the tasks are those that the Celery app registers, with queues and options as they are in force; the source
    of their packages is read, and of each PATH. Without -A, or with --source, nothing is imported. The bridge need not
    be installed or configured. Services, keys, effect classes and publish modes are suggestions, each with its reason.

    \b
    Exit status: 0 nothing stops a task from moving; 1 something does; 2 wrong use, or the app cannot be loaded.

    \b
    Examples:
      taskbridge -A mysite scan
      taskbridge scan --source . --json
      taskbridge -A mysite scan --service orders --fail-on differs
    """
    result = look(None if sources else context.obj, [*paths, *sources], by=by, quiet=as_json)
    chosen = _only(result, services) if services else result
    if as_json:
        click.echo(json.dumps(document(chosen)))
    else:
        show(chosen, Console())
    if any(chosen.count(level) for level in FAIL_ON[fail_on]):
        context.exit(1)


def look(name: str | None, paths: Sequence[Path], *, by: str = "queue", quiet: bool = False) -> Result:
    """
    Return the outcome of a scan of the app called `name`, of `paths`, or of both.

    Raises ConfigurationError when neither is given, when the app cannot be imported, and when there is no task at all.
    """
    if not name and not paths:
        raise ConfigurationError(
            "there is nothing to scan: give -A MODULE[:NAME] as for `celery`, or a folder with --source"
        )
    app: App | None = None
    services: dict[str, str] = {}
    roots = list(paths)
    if name:
        from taskbridge.adapters.celery.registry import describe_app, source_roots

        loaded = load_app(name)
        try:
            app = describe_app(loaded)
        except ImportError as error:
            raise ConfigurationError(f"the tasks of the application {name} cannot be imported: {error}") from error
        roots.extend(source_roots(loaded))
        services = _configured(loaded)
    with _progress(quiet=quiet) as progress:
        project = read(roots, progress)
    found = tuple(tasks(project)) if app is None else app.tasks
    if not found:
        where = f"the application {name} registers no tasks" if name else "no task is declared in what was read"
        raise ConfigurationError(f"{where}: name the application with -A, or the folder of the source with --source")
    return judge(project, survey(project), found, app, services, by_queue=by == "queue")


def _configured(app: Any) -> dict[str, str]:
    """Return the service of each task by the settings, where there are any that name services."""
    from django.conf import settings as django_settings
    from django.core.exceptions import ImproperlyConfigured

    from taskbridge.adapters.celery.features import tasks_of
    from taskbridge.settings import Settings

    try:
        mapping = getattr(django_settings, "TASKBRIDGE", None)
    except ImproperlyConfigured:
        return {}
    if mapping is None:
        return {}
    # Nothing is asked of Kafka: where it is does not matter yet.
    environment = {"KAFKA_BOOTSTRAP_SERVERS": "-", **os.environ}
    settings = Settings.from_mapping(mapping, environment)
    return {task: service for service in settings.services for task in tasks_of(app, settings, service)}


def _only(result: Result, names: Sequence[str]) -> Result:
    known = sorted(service.name for service in result.services)
    for name in names:
        if name not in known:
            raise ConfigurationError(f"the scan found no service {name!r}; it found: {', '.join(known)}")
    return result.only(names)


@contextmanager
def _progress(*, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal) as bar:
        task = bar.add_task("reading source", total=None, visible=False)

        def advance(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total, visible=total >= SHOWN_FROM)

        yield advance
