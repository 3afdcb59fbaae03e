"""A Celery app's tasks and configuration, as the scan wants to know them."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import FunctionType
from typing import Any

from celery import Task as CeleryTask
from kombu.utils.imports import symbol_by_name
from kombu.utils.url import parse_url

from taskbridge.adapters.celery.features import DEFAULT_REQUEST, queue_of, unsupported
from taskbridge.scan.facts import App, Parameter, Place, Schedule, Stop, Task
from taskbridge.scan.modules import shown_path

_PLAIN = (
    "acks_late",
    "reject_on_worker_lost",
    "ignore_result",
    "rate_limit",
    "priority",
    "time_limit",
    "soft_time_limit",
    "compression",
    "expires",
    "track_started",
    "throws",
)
_OF_RETRIES = {"max_retries": 3, "default_retry_delay": 180}
_UNCHANGED: tuple[Any, ...] = (None, False, (), [], 0)

_VISIBILITY = {"redis": 3_600.0, "rediss": 3_600.0, "sentinel": 3_600.0, "sqs": 1_800.0}
"""Seconds after which kombu's transports hand out again what was not acknowledged, unless told otherwise."""


def describe_app(app: Any) -> App:
    """
    Return what an app registers and how it is configured, with all of its default modules imported.

    Nothing is connected to. Tasks of Celery itself are left out. A URL's password is never part of what is returned.
    """
    app.finalize()
    app.loader.import_default_modules()
    names = sorted(name for name in app.tasks if not name.startswith("celery."))
    broker = _scheme(app.conf.broker_read_url or app.conf.broker_url) or "amqp"
    options = app.conf.broker_transport_options or {}
    visibility = options.get("visibility_timeout", _VISIBILITY.get(broker))
    return App(
        name=str(app.main or ""),
        tasks=tuple(_task(app, name) for name in names),
        broker=broker,
        result_backend=_scheme(app.conf.result_backend),
        default_queue=str(app.conf.task_default_queue),
        visibility_timeout=None if visibility is None else float(visibility),
        schedules=tuple(_schedules(app.conf.beat_schedule or {})),
    )


def source_roots(app: Any) -> list[Path]:
    """
    Return the folders of the packages in which the app and its tasks are written.

    For a module that is in no package this is its file alone.
    """
    roots: set[Path] = set()
    files = [_file(_function(task)) for name, task in app.tasks.items() if not name.startswith("celery.")]
    for file in files:
        if file is not None:
            roots.add(_outermost(file))
    return sorted(roots)


def _outermost(file: Path) -> Path:
    top = file.parent
    while (top.parent / "__init__.py").exists():
        top = top.parent
    return top if (top / "__init__.py").exists() else file


def _task(app: Any, name: str) -> Task:
    task = app.tasks[name]
    function = _function(task)
    file = _file(function)
    code = (
        f"{function.__module__}.{function.__qualname__}" if isinstance(function, FunctionType) else type(task).__name__
    )
    line = function.__code__.co_firstlineno if isinstance(function, FunctionType) else 1
    return Task(
        name=name,
        code=code,
        place=Place(shown_path(file) if file is not None else code, line),
        parameters=tuple(_parameters(task)),
        options=dict(_options(app, task)),
        queue=queue_of(app, name, task),
        stops=tuple(Stop(item.name, item.feature, item.remedy) for item in unsupported(app, [name])),
    )


def _function(task: Any) -> Any:
    """Return the function that somebody wrote, below what Celery and other decorators put around it."""
    run = getattr(task, "_orig_run", None) or task.run
    return inspect.unwrap(getattr(run, "__func__", run))


def _file(function: Any) -> Path | None:
    with suppress(TypeError, OSError):
        if found := inspect.getsourcefile(function):
            return Path(found).resolve()
    return None


def _parameters(task: Any) -> Iterator[Parameter]:
    with suppress(TypeError, ValueError):
        for item in inspect.signature(getattr(task, "_orig_run", None) or task.run).parameters.values():
            if item.kind not in {item.VAR_POSITIONAL, item.VAR_KEYWORD}:
                yield Parameter(item.name, item.default is item.empty)


def _options(app: Any, task: Any) -> Iterable[tuple[str, Any]]:
    for name in _PLAIN:
        value = getattr(task, name, None)
        if value not in _UNCHANGED:
            yield name, value
    if getattr(task, "autoretry_for", None):
        yield "autoretry_for", ", ".join(error.__name__ for error in task.autoretry_for)
    for name, default in _OF_RETRIES.items():
        if getattr(task, name, default) != default:
            yield name, getattr(task, name)
    if task.serializer and task.serializer != app.conf.task_serializer:
        yield "serializer", task.serializer
    if not isinstance(inspect.getattr_static(type(task), "run", None), staticmethod):
        yield "bind", True
    base = type(task).__mro__[1]
    if base not in {CeleryTask, app.Task} and not base.__module__.startswith("celery."):
        yield "base", f"{base.__module__}.{base.__qualname__}"
    priority = app.amqp.router.route({}, task.name, (), {}, task).get("priority")
    if priority:
        yield "route_priority", priority
    if symbol_by_name(task.Request) is not symbol_by_name(DEFAULT_REQUEST):
        yield "Request", str(task.Request)


def _schedules(entries: Mapping[str, Any]) -> Iterator[Schedule]:
    for name, entry in sorted(entries.items(), key=lambda item: str(item[0])):
        task = entry.get("task") if isinstance(entry, Mapping) else None
        if task:
            yield Schedule(str(name), str(task))


def _scheme(url: Any) -> str:
    if isinstance(url, list | tuple):
        url = url[0] if url else ""
    text = str(url or "")
    if "://" in text:
        return str(parse_url(text)["transport"])
    return text
