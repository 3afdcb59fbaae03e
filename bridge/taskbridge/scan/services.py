"""Services, made of tasks that belong together."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from taskbridge.scan.facts import Task
from taskbridge.settings import NAME

_GENERIC = frozenset({"tasks", "task", "celery", "jobs", "apps", "worker", "workers", "background"})
"""Parts of a module's name that do not tell one part of a system from another."""


@dataclass(frozen=True, slots=True)
class Service:
    """A suggested service: `mapping` is what stands in `TASKBRIDGE["services"]`, without its keys."""

    name: str
    tasks: tuple[Task, ...]
    mapping: Mapping[str, Any]


def group(
    tasks: Sequence[Task], default_queue: str, chosen: Mapping[str, str] | None = None, *, by_queue: bool = True
) -> list[Service]:
    """
    Return services that have every task between them: by queue, and by package for what goes to the default queue.

    `chosen` are services that the settings name already, by task. Without `by_queue` all others go by package.
    """
    members: dict[str, list[Task]] = {}
    queues: dict[str, str] = {}
    for task in tasks:
        name = (chosen or {}).get(task.name, "")
        if not name and by_queue and task.queue and task.queue != default_queue:
            name = service_name(task.queue)
            queues[name] = task.queue
        members.setdefault(name or service_name(_part(task)), []).append(task)
    services = []
    for name, own in sorted(members.items()):
        others = [task for other, rest in members.items() if other != name for task in rest]
        patterns = _patterns(own, others)
        mapping: dict[str, Any] = {}
        if patterns or name not in queues:
            mapping["tasks"] = patterns or sorted(task.name for task in own)
        if name in queues:
            mapping["queues"] = [queues[name]]
        services.append(Service(name, tuple(own), mapping))
    return services


def key_patterns(own: Sequence[Task], keys: Mapping[str, str]) -> dict[str, str]:
    """
    Return the `keys` of a service: the argument that most tasks have as `*`, those of other tasks before it.

    A task that lacks the argument named by `*` is keyed by its id.
    """
    counts = Counter(keys[task.name] for task in own if task.name in keys)
    if not counts:
        return {}
    common, _ = max(counts.items(), key=lambda item: (item[1], item[0]))
    different = {task.name: keys[task.name] for task in own if keys.get(task.name, common) != common}
    return {**dict(sorted(different.items())), "*": common}


def service_name(text: str) -> str:
    """Return a text as the name of a service: lower-case letters, digits, `-` and `_`."""
    name = re.sub(r"[^a-z0-9_-]+", "-", text.lower()).strip("-_")[:63]
    return name if NAME.fullmatch(name) else "tasks"


def _part(task: Task) -> str:
    """Return the part of the system that a task belongs to: the last telling part of its module's name."""
    parts = task.module.split(".")
    if "tasks" in parts[1:]:
        parts = parts[: parts.index("tasks", 1)]
    telling = [part for part in parts if part not in _GENERIC and not part.endswith("_tasks")]
    return telling[-1] if telling else parts[-1]


def _patterns(own: Sequence[Task], others: Sequence[Task]) -> list[str]:
    """Return patterns that match all of `own` and none of the others; nothing where there are none such."""
    packages = {_package(task.name) for task in own}
    patterns = sorted(f"{package}.*" for package in packages if package)
    if len(patterns) != len(packages) or len(patterns) > max(3, len(own) // 2):
        return []
    if any(fnmatchcase(task.name, pattern) for task in others for pattern in patterns):
        return []
    return patterns


def _package(name: str) -> str:
    """Return the package of a task up to and including `tasks`, where its name has that."""
    parts = name.split(".")[:-1]
    if "tasks" in parts:
        parts = parts[: parts.index("tasks") + 1]
    return ".".join(parts)
