"""
What runs in the executors of these tests: no Celery, and records that say themselves what becomes of them.

`ok` ends at once, `gate:<name>` when a file of that name is there, `nap:<seconds>` after a while; `die` takes the
process down, and `die-twice` again when its failure is to be recorded; `hang` runs into a hard time limit; `dead` and
`requeue` leave the supervisor something to do, `requeue-once` until it comes again. An obituary is answered with a
verdict that repeats it.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from taskbridge.worker.channel import Report, Verdict, WorkItem, dump_report, load_batch
from taskbridge.worker.slots import ATTENTION, DONE, WITHDRAWN, SlotTable

MISSING_GATE = 20.0
"""Seconds after which a test has failed anyway."""


@dataclass(frozen=True, slots=True)
class Options:
    """Where gates are, and how the process fails to start, if it does."""

    gates: Path
    failure: str = ""
    exit_at_start: int = 0


def main(connection: Connection, memory: Any, lock: Any, options: Options) -> None:
    """Work through batches as the real executor does."""
    signal.signal(signal.SIGUSR1, lambda *_: None)
    if options.failure:
        connection.send_bytes(dump_report(Report(failure=options.failure)))
        return
    if options.exit_at_start:
        os._exit(options.exit_at_start)
    table = SlotTable(memory)
    connection.send_bytes(dump_report(Report(ready=True)))
    while True:
        try:
            frame = connection.recv_bytes()
        except (EOFError, OSError):
            return
        if not frame:
            return
        table.begin_work(time.monotonic())
        rows = []
        for item in load_batch(frame):
            with lock:
                if table.state(item.slot) == WITHDRAWN:
                    continue
                started = time.time()
                table.start(item.slot, started)
            verdict = _run(item, table, options)
            rows.append(_row(item, "dead" if verdict else "success", started))
            if verdict is not None:
                connection.send_bytes(dump_report(Report(verdicts=[verdict], rows=rows)))
                rows = []
            table.end(item.slot, started, time.time(), DONE if verdict is None else ATTENTION)
        connection.send_bytes(dump_report(Report(rows=rows, finished=True)))
        table.end_work(time.monotonic())


def _run(item: WorkItem, table: SlotTable, options: Options) -> Verdict | None:
    word, _, argument = (item.value or b"").decode().partition(":")
    if item.obituary is not None:
        if word == "die-twice":
            os.kill(os.getpid(), signal.SIGKILL)
        detail = f"{item.obituary.cause} {item.obituary.exitcode}"
        return Verdict(item.slot, "dead", "worker_lost", detail, "")
    if word in {"die", "die-twice"}:
        os.kill(os.getpid(), signal.SIGKILL)
    elif word == "gate":
        _wait_for(options.gates / argument)
    elif word == "nap":
        time.sleep(float(argument))
    elif word == "hang":
        table.set_deadlines(0.0, time.monotonic() + 0.05)
        threading.Event().wait(MISSING_GATE)
    elif word == "requeue-once":
        if ("bridge-deliveries", b"1") not in item.headers:
            return Verdict(item.slot, "requeue", "", "", "")
    elif word in {"dead", "requeue"}:
        return Verdict(item.slot, word, "rejected", "as it should", "")
    return None


def _wait_for(gate: Path) -> None:
    deadline = time.monotonic() + MISSING_GATE
    while not gate.exists() and time.monotonic() < deadline:
        time.sleep(0.005)


def _row(item: WorkItem, outcome: str, started: float) -> tuple[Any, ...]:
    name = f"{item.partition}-{item.offset}"
    return (name, 0, 0, "t", "kafka", outcome, started, time.time(), 0, item.partition, item.offset, 0, "", "")
