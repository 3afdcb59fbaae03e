"""
Goes every path with whatever workers are up, and prints what the tasks saw: one JSON object, path -> what was seen.

`python -m bridged.walk`; see `bridged.paths`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import django
from celery import Celery
from celery.result import AsyncResult, ResultBase
from django.db import transaction

import taskbridge
from bridged import sight, witnesses
from bridged.celery import PLAIN, app, configure
from bridged.paths import PATHS, Path

PATIENCE = 60.0
"""Seconds without any path coming to its end, after which no path is waited for: what is missing then shows."""


class Tasks:
    """The project's tasks, and what a path may need beside them."""

    def __getattr__(self, name: str) -> Any:
        return getattr(witnesses, name)

    def stranger(self) -> Celery:
        """Return an application that knows the broker and none of the tasks."""
        other = configure(Celery("stranger", set_as_current=False))
        if not PLAIN:
            taskbridge.install(other)
        return other

    def atomic(self) -> Any:
        """Return a transaction."""
        return transaction.atomic()

    @contextmanager
    def rolled_back(self) -> Iterator[None]:
        """Enter a transaction that comes to nothing."""
        with transaction.atomic():
            yield
            transaction.set_rollback(True)

    def beat(self, mark: str, **entry: Any) -> None:
        """Let `celery beat` send an entry of its schedule until a task has run."""
        schedule = {"entry": {"task": "bridged.witnesses.seen", "schedule": 2.0, **entry}}
        with tempfile.TemporaryDirectory() as directory:
            command = ("-m", "celery", "-A", "bridged.celery", "beat", "--schedule", f"{directory}/schedule")
            beat = subprocess.Popen(
                [sys.executable, *command],
                env={**os.environ, "BRIDGED_BEAT": json.dumps(schedule)},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd=directory,
            )
            try:
                wait_for(lambda: sight.count(mark))
            finally:
                beat.terminate()
                beat.wait()


class Progress:
    """When a path last came to its end, in seconds of the monotonic clock."""

    last = time.monotonic()


def wait_for(condition: Any) -> None:
    """Return once the condition holds, or when nothing has come to its end for too long."""
    while not condition():
        if time.monotonic() > Progress.last + PATIENCE:
            return
        time.sleep(0.02)
    Progress.last = time.monotonic()


def outcome(result: Any) -> Any:
    """Return how a result ended, with all that its backend says of it, but for what names a worker or a moment."""
    if not isinstance(result, ResultBase):
        return None
    wait_for(result.ready)
    if not isinstance(result, AsyncResult):
        return [outcome(one) for one in result]
    # A result that several threads ask for is not safe to subscribe to; reading it is.
    meta = dict(app.backend.get_task_meta(result.id, cache=False))
    meta.pop("date_done", None)
    meta.pop("worker", None)
    meta["traceback"] = bool(meta.get("traceback"))
    children = [child.id for child in meta.get("children") or () if isinstance(child, AsyncResult)]
    return {key: sight.typed(value) for key, value in meta.items()} | {"children": children}


def go(mark: str, one: Path) -> Any:
    """Send by one path; return how it ended once as many tasks have run as should."""
    try:
        ended = outcome(one.send(Tasks(), mark))
    except Exception as error:  # noqa: BLE001 - it is what was seen
        return f"{type(error).__name__}: {error}"
    wait_for(lambda: sight.count(mark) >= one.runs)
    return ended


def main() -> None:
    """Go every path, several at a time: first with task protocol 2, then, where it can, with 1."""
    django.setup()
    chosen = {name: one for name, one in PATHS.items() if not sys.argv[1:] or name in sys.argv[1:]}
    rounds = {2: chosen, 1: {f"{name} (protocol 1)": one for name, one in chosen.items() if one.again}}
    marks = {name: f"@{name}" for paths in rounds.values() for name in paths}
    sight.forget(marks.values())
    ends: dict[str, Any] = {}
    for protocol, paths in rounds.items():
        app.conf.task_protocol = protocol
        app.amqp.__dict__.pop("create_task_message", None)
        with ThreadPoolExecutor(8) as pool:
            ended = pool.map(go, [marks[name] for name in paths], paths.values())
            ends |= dict(zip(paths, ended, strict=True))
    seen = {}
    # Only now, so that a task too many is seen as well.
    for name, mark in marks.items():
        kept = sight.read(mark)
        seen[name] = {"sides": sorted({one["side"] for one in kept}), **sight.comparable(kept, ends[name])}
    json.dump(seen, sys.stdout, indent=1, sort_keys=True)


if __name__ == "__main__":
    main()
