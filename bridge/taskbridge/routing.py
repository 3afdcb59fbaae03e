"""Which service a task belongs to, by which key its messages are ordered, and into which bucket that key falls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from functools import lru_cache
from hashlib import sha256
from typing import Any

from taskbridge.settings import ServiceSettings, Settings

BUCKETS = 10_000


@lru_cache(maxsize=4096)
def bucket(salt: str, key: str) -> int:
    """
    Return the bucket of a key, 0 to 9,999: the same on every machine, in every process, for ever.

    The first eight bytes of SHA-256 over salt, 0x1F and key, as a big-endian integer, modulo 10,000.
    """
    digest = sha256(salt.encode() + b"\x1f" + key.encode()).digest()
    return int.from_bytes(digest[:8], "big") % BUCKETS


class Router:
    """Finds services and keys; remembers what it found, since an application has few task names."""

    def __init__(self, settings: Settings) -> None:
        self._services = settings.services
        self._by_task: dict[tuple[str, str | None], ServiceSettings | None] = {}
        self._key_arguments: dict[str, str | None] = {}

    def service(self, task: str, queue: str | None, declared: str | None = None) -> ServiceSettings | None:
        """
        Return the service of a task, or None when no service has it.

        By the service the task itself declares, then by task name pattern, then by queue.
        """
        if declared is not None:
            return self._services.get(declared)
        known = (task, queue)
        if known not in self._by_task:
            self._by_task[known] = self._find(task, queue)
        return self._by_task[known]

    def _find(self, task: str, queue: str | None) -> ServiceSettings | None:
        for service in self._services.values():
            if any(fnmatchcase(task, pattern) for pattern in service.tasks):
                return service
        for service in self._services.values():
            if queue is not None and queue in service.queues:
                return service
        return None

    def key_argument(self, service: ServiceSettings, task: str) -> str | None:
        """Return the name of the argument that is the task's business key, or None for the task id."""
        if task not in self._key_arguments:
            self._key_arguments[task] = next(
                (argument for pattern, argument in service.keys.items() if fnmatchcase(task, pattern)), None
            )
        return self._key_arguments[task]


def business_key(
    argument: str | None,
    parameters: Sequence[str],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    task_id: str,
) -> str:
    """
    Return the key of one call: `str` of the argument called `argument`, else the task id.

    `parameters` are the names of the task's positional parameters. A call that leaves the argument to its default, or
    passes None or an empty string, has no business key, so the task id serves: spread rather than heaped on one key.
    """
    if argument is not None:
        value = kwargs.get(argument)
        if value is None and argument in parameters:
            position = list(parameters).index(argument)
            value = args[position] if position < len(args) else None
        if value is not None and value != "":
            return str(value)
    return task_id
