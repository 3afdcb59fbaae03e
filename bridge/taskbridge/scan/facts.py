"""What is known of a project before it is judged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A line of a source file."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class Parameter:
    """An argument of a task, without `self`."""

    name: str
    required: bool


@dataclass(frozen=True, slots=True)
class Stop:
    """What keeps a task on Celery: a feature of the table of behaviours, as it is written, and what to do about it."""

    feature: str
    text: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Task:
    """
    One task, from the registry of a Celery app or from a decorator in the source.

    `code` is the dotted name of its function, or of its class. `options` are those that differ from Celery's defaults.
    `queue` is empty where no router could be asked.
    """

    name: str
    code: str
    place: Place
    parameters: tuple[Parameter, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    queue: str = ""
    stops: tuple[Stop, ...] = ()

    @property
    def module(self) -> str:
        """The module of its code."""
        return self.code.rpartition(".")[0]


@dataclass(frozen=True, slots=True)
class Schedule:
    """An entry of beat's schedule."""

    entry: str
    task: str


@dataclass(frozen=True, slots=True)
class App:
    """
    A Celery application, as its configuration and registry tell.

    `visibility_timeout` is after how many seconds the broker hands out again what was not acknowledged; None for a
    broker that never does.
    """

    name: str
    tasks: tuple[Task, ...]
    broker: str
    result_backend: str
    default_queue: str
    visibility_timeout: float | None
    schedules: tuple[Schedule, ...] = ()


Where = Literal["loop", "transaction", "on_commit"]


@dataclass(frozen=True, slots=True)
class Call:
    """
    A place that dispatches a task, or prepares its dispatch.

    `target` is the dotted name of the task's function, or its registered name when `by_name`; empty when nobody can
    tell. `wait` is an eta or countdown in seconds, where it is a constant.
    """

    target: str
    how: str
    place: Place
    by_name: bool = False
    caller: str = ""
    options: frozenset[str] = frozenset()
    where: frozenset[Where] = frozenset()
    positional: int = 0
    keywords: frozenset[str] = frozenset()
    wait: float | None = None


@dataclass(frozen=True, slots=True)
class Sight:
    """Something that the source shows at a place: a feature used, a side effect, a way past the bridge."""

    kind: str
    text: str
    place: Place


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A file that could not be read, and why."""

    file: str
    reason: str
