"""What happened to each task, written to Redis by whichever process it happened in."""

from __future__ import annotations

import json
import os
from functools import cache
from typing import Any

import redis
from celery import signals

PREFIX = os.environ["BRIDGED_PREFIX"]


@cache
def _client(_pid: int) -> redis.Redis:
    return redis.Redis.from_url(os.environ["REDIS_URL"], decode_responses=True)


def client() -> redis.Redis:
    """Return this process's connection."""
    return _client(os.getpid())


def write(task_id: str, what: str, **details: Any) -> None:
    """Add one line to a task's journal, and to the project's."""
    line = json.dumps({"id": task_id, "what": what, **details}, default=str)
    client().rpush(f"{PREFIX}:journal:{task_id}", line)
    client().rpush(f"{PREFIX}:journal", line)


def read(task_id: str | None = None) -> list[dict[str, Any]]:
    """Return a task's lines, or all of them."""
    key = f"{PREFIX}:journal:{task_id}" if task_id else f"{PREFIX}:journal"
    return [json.loads(line) for line in client().lrange(key, 0, -1)]


@signals.task_prerun.connect
def _prerun(task_id: str, task: Any, **_: Any) -> None:
    write(task_id, "prerun", task=task.name, retries=task.request.retries, worker=task.request.hostname)


@signals.task_postrun.connect
def _postrun(task_id: str, state: str, **_: Any) -> None:
    write(task_id, "postrun", state=state)


@signals.task_success.connect
def _success(sender: Any, **_: Any) -> None:
    write(sender.request.id, "success")


@signals.task_failure.connect
def _failure(task_id: str, exception: BaseException, **_: Any) -> None:
    write(task_id, "failure", exception=type(exception).__name__)


@signals.task_retry.connect
def _retry(request: Any, **_: Any) -> None:
    write(request.id, "retry", retries=request.retries)


@signals.task_revoked.connect
def _revoked(request: Any, expired: bool, **_: Any) -> None:
    write(request.id, "revoked", expired=expired)
