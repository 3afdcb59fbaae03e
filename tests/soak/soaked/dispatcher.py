"""
One process that dispatches at a steady rate: `python -m soaked.dispatcher MODE RATE SECONDS SHARE_ONCE OUTPUT`.

Its output has one JSON line per dispatch and per flag it came to know, and a last one with its counters.
"""

import json
import random
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, TextIO
from uuid import uuid4

import django
from django.db import transaction

django.setup()

import taskbridge  # noqa: E402
from soaked import tasks  # noqa: E402
from soaked.celery import app  # noqa: E402
from taskbridge.contrib.django.wiring import bridge_of  # noqa: E402

TOGETHER = 5
"""Dispatches of one tick, and so in one transaction or behind one barrier."""

ROLLED_BACK = 0.1
"""Share of the transactions with an outbox that are rolled back."""


class RollBackError(Exception):
    """What rolls a transaction back."""


@contextmanager
def scope(mode: str, rolled_back: bool) -> Iterator[None]:
    """What callers of this publish mode dispatch in."""
    inner = {"confirm": nullcontext, "barrier": taskbridge.barrier, "outbox": transaction.atomic}[mode]
    try:
        with inner():
            yield
            if rolled_back:
                raise RollBackError
    except RollBackError:
        pass


class Dispatcher:
    """The process's work, and its notes."""

    def __init__(self, mode: str, share_once: float, output: TextIO) -> None:
        self.mode = mode
        self.share_once = share_once
        self.output = output
        self.bridge = bridge_of(app)
        self.random = random.Random()
        self.version = -1
        self.plain = getattr(tasks, f"{mode}_plain")
        self.once = getattr(tasks, f"{mode}_once")

    def note(self, **what: Any) -> None:
        """Write a line."""
        self.output.write(json.dumps(what) + "\n")

    def tick(self) -> None:
        """Dispatch a few, and look which flag is known now."""
        rolled_back = self.mode == "outbox" and self.random.random() < ROLLED_BACK
        sent: list[tuple[str, bool]] = []
        error = ""
        try:
            with scope(self.mode, rolled_back):
                for _ in range(TOGETHER):
                    once = self.random.random() < self.share_once
                    task_id = uuid4().hex
                    sent.append((task_id, once))
                    (self.once if once else self.plain).apply_async(task_id=task_id)
        except Exception as raised:  # noqa: BLE001 - whatever it is, it is written down, and the test decides
            error = repr(raised)
        for task_id, once in sent:
            self.note(id=task_id, once=once, rolled_back=rolled_back, error=error)
        version = self.bridge.flags.get(self.mode).version
        if version != self.version:
            self.version = version
            self.note(version=version, at=time.time())

    def run(self, rate: float, seconds: float) -> None:
        """Tick at a steady pace, without catching up on more than a second."""
        start = time.monotonic()
        ticks = 0
        while (now := time.monotonic() - start) < seconds:
            due = ticks * TOGETHER / rate
            if due > now:
                time.sleep(due - now)
            elif now - due > 1.0:
                ticks = int((now - 1.0) * rate / TOGETHER)
            self.tick()
            ticks += 1
        self.bridge.close()
        self.note(counters=self.bridge.dispatcher.counters.snapshot().get(self.mode, {}))


if __name__ == "__main__":
    mode, rate, seconds, share_once, path = sys.argv[1:]
    with open(path, "w", encoding="utf-8") as output:
        Dispatcher(mode, float(share_once), output).run(float(rate), float(seconds))
