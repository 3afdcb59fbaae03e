"""
A process of the project that does what it is told, line by line, and lives as long as a test wants it to.

Each line of its input is a JSON string with an expression; each line of its output is `{"value": …}` or
`{"error": "Type: sentence"}`. What a test looks at, such as counters and flags, is therefore one process's.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from typing import Any

import django

from bridged import journal, tasks
from bridged.celery import app
from taskbridge.contrib.django.wiring import bridge_of


def dispatch(name: str, count: int, *args: Any, **options: Any) -> list[list[Any]]:
    """Dispatch a task; return [id, seconds] of each."""
    sent = []
    for _ in range(count):
        began = time.monotonic()
        sent.append([getattr(tasks, name).apply_async(args, **options).id, time.monotonic() - began])
    return sent


def counters() -> dict[str, int]:
    """Return what the dispatcher of this process has counted for `work`."""
    return bridge_of(app).dispatcher.counters.snapshot().get("work", {})


class Load:
    """Dispatches `nothing`, again and again, in a thread of its own."""

    def __init__(self, pause: float) -> None:
        self.ids: list[str] = []
        self.errors: list[str] = []
        self.slowest = 0.0
        self._pause = pause
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(self._pause):
            try:
                [(task_id, seconds)] = dispatch("nothing", 1)
            except Exception as error:  # noqa: BLE001 - the test looks at it
                self.errors.append(f"{type(error).__name__}: {error}")
            else:
                self.ids.append(task_id)
                self.slowest = max(self.slowest, seconds)

    def stop(self) -> dict[str, Any]:
        """End the load; return what became of it."""
        self._stop.set()
        self._thread.join()
        return {"ids": self.ids, "errors": self.errors, "slowest": self.slowest}


loads: dict[str, Load] = {}


def load(name: str, pause: float) -> None:
    """Begin a load."""
    loads[name] = Load(pause)


def main() -> None:
    """Answer until the input ends."""
    names = {
        "app": app,
        "tasks": tasks,
        "journal": journal,
        "bridge": bridge_of(app),
        "dispatch": dispatch,
        "counters": counters,
        "load": load,
        "loads": loads,
    }
    for line in sys.stdin:
        try:
            answer = {"value": eval(json.loads(line), names)}  # noqa: S307 - our own test wrote it
        except Exception as error:  # noqa: BLE001 - it is the test's to judge
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer, default=str), flush=True)


if __name__ == "__main__":
    django.setup()
    main()
