"""Tasks whose order matters, and a process that dispatches them without a pause."""

from __future__ import annotations

import sys
import threading
import time

from celery import Task, shared_task

from bridged import journal


def name_of(key: str) -> str:
    """Return the Redis list in which the executions of a key are written down."""
    return f"{journal.PREFIX}:turns:{key}"


@shared_task(bind=True, ignore_result=True, acks_late=True, reject_on_worker_lost=True)
def take(self: Task, key: str, number: int, seconds: float = 0.0) -> None:
    """Write down that a turn began and ended: two turns of one key at a time would show."""
    side = self.request.hostname.partition("@")[0]
    journal.client().rpush(name_of(key), f"{number} begins {side}")
    time.sleep(seconds)
    journal.client().rpush(name_of(key), f"{number} ends {side}")


def main(pause: float, seconds: float, keys: list[str]) -> None:
    """Dispatch numbered turns, each of some seconds, for each key until the input ends; print how many there were."""
    stop = threading.Event()

    def read() -> None:
        sys.stdin.read()
        stop.set()

    threading.Thread(target=read, daemon=True).start()
    number = 0
    while not stop.is_set():
        for key in keys:
            take.delay(key, number, seconds)
        number += 1
        stop.wait(pause)
    print(number, flush=True)
