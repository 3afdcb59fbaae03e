"""To which service a Celery dispatch belongs, and by which key."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from taskbridge.adapters.celery.options import TaskOptions
from taskbridge.exceptions import ConfigurationError
from taskbridge.routing import Router, business_key
from taskbridge.settings import PublishMode, ServiceSettings, Settings

_BY_INNER_TASK = frozenset({"celery.map", "celery.starmap", "celery.chunks"})
_BY_CALLBACK = "celery.chord_unlock"
_CANVAS = frozenset({*_BY_INNER_TASK, _BY_CALLBACK, "celery.chain", "celery.group", "celery.chord"})


@dataclass(frozen=True, slots=True)
class _Declared:
    """What the registered task says of itself."""

    options: TaskOptions
    parameters: tuple[str, ...]


_UNREGISTERED = _Declared(TaskOptions(), ())


class Addressing:
    """Finds services and keys for one Celery app; remembers what a task name leads to."""

    def __init__(self, app: Any, settings: Settings) -> None:
        self._app = app
        self._settings = settings
        self._router = Router(settings)
        self._declared: dict[str, _Declared] = {}

    def check(self) -> None:
        """Raise ConfigurationError when a registered task declares a service or key that does not exist."""
        for name in list(self._app.tasks):
            declared = self._of(name)
            if declared.options.service is not None:
                self._known(declared.options.service, name)
            key = declared.options.key
            if key is not None and declared.parameters and key not in declared.parameters:
                raise ConfigurationError(
                    f"task {name} declares the key {key!r}, but its arguments are: {', '.join(declared.parameters)}"
                )

    def service(self, task: str, queue: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> ServiceSettings | None:
        """
        Return the service of one call, or None.

        By the service that the task declares, by name, by queue. What Celery itself adds to a canvas belongs to the
        task that it stands for. Raises ConfigurationError when the task declares a service that is not configured.
        """
        if task in _CANVAS:
            task = _inner_task(task, args, kwargs) or task
        declared = self._of(task).options.service
        if declared is not None:
            return self._known(declared, task)
        return self._router.service(task, queue)

    def key(
        self, service: ServiceSettings, task: str, args: Sequence[Any], kwargs: Mapping[str, Any], task_id: str
    ) -> str:
        """
        Return the business key of one call.

        Of a task that is not registered here only keyword arguments can be told, so that a key passed by position is
        not found and the task id serves.
        """
        declared = self._of(task)
        argument = declared.options.key or self._router.key_argument(service, task)
        if argument is None:
            return task_id
        return business_key(argument, declared.parameters, args, kwargs, task_id)

    def publish(self, service: ServiceSettings, task: str) -> PublishMode:
        """Return how publishes of a task end: as it declares, else as its service's settings say."""
        return self._of(task).options.publish or service.publish

    def _known(self, service: str, task: str) -> ServiceSettings:
        found = self._settings.services.get(service)
        if found is None:
            raise ConfigurationError(
                f"task {task} declares the service {service!r}, but TASKBRIDGE names: "
                + ", ".join(sorted(self._settings.services))
            )
        return found

    def _of(self, name: str) -> _Declared:
        found = self._declared.get(name)
        if found is None:
            task = self._app.tasks.get(name)
            # A task may be registered later, so that it is not there is not remembered.
            if task is None:
                return _UNREGISTERED
            found = self._declared[name] = _describe(name, task)
        return found


def _describe(name: str, task: Any) -> _Declared:
    options = getattr(task, "bridge", None)
    if options is None:
        options = TaskOptions()
    elif not isinstance(options, TaskOptions):
        raise ConfigurationError(f"task {name}: bridge= takes taskbridge.TaskOptions, not {type(options).__name__}")
    try:
        signature = inspect.signature(task.run)
    except (TypeError, ValueError):
        return _Declared(options, ())
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return _Declared(
        options, tuple(parameter.name for parameter in signature.parameters.values() if parameter.kind in positional)
    )


def _inner_task(task: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str | None:
    """Return the name of the user's task that one of Celery's own stands for."""
    inner: Any = None
    if task in _BY_INNER_TASK:
        inner = kwargs.get("task", args[0] if args else None)
    elif task == _BY_CALLBACK:
        inner = kwargs.get("callback", args[1] if len(args) > 1 else None)
    return _first_name(inner)


def _first_name(signature: Any) -> str | None:
    if isinstance(signature, str):
        return signature
    if not isinstance(signature, Mapping):
        name = getattr(signature, "name", None)
        return name if isinstance(name, str) else None
    name, kwargs = signature.get("task"), signature.get("kwargs") or {}
    if name in {"celery.chain", "celery.group"} and kwargs.get("tasks"):
        return _first_name(next(iter(kwargs["tasks"])))
    if name == "celery.chord" and kwargs.get("body"):
        return _first_name(kwargs["body"])
    return name if isinstance(name, str) else None
