"""The main function of an executor process."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from taskbridge.adapters.celery.execution import TaskExecution
from taskbridge.adapters.celery.inspection import CopyInspection, CopyResult
from taskbridge.adapters.celery.result import Result
from taskbridge.worker.channel import Report, Verdict, WorkItem, dump_report, load_batch
from taskbridge.worker.rows import OUTCOMES
from taskbridge.worker.slots import ATTENTION, DONE, WITHDRAWN, SlotTable

ZYGOTE = "taskbridge.adapters.celery.zygote"
"""The module that the fork server preloads."""

Execute = Callable[[WorkItem], Result | CopyResult]

_CODES = {outcome: DONE + number for number, outcome in enumerate(OUTCOMES)}


@dataclass(frozen=True, slots=True)
class ExecutorOptions:
    """What an executor has to know: its topic, and for which role it works."""

    topic: str
    role: str
    max_deliveries: int


def main(connection: Connection, memory: Any, lock: Any, options: ExecutorOptions) -> None:
    """Execute batches until asked to stop or the supervisor is gone."""
    from taskbridge.adapters.celery import zygote

    if zygote.app is None:
        connection.send_bytes(dump_report(Report(failure=zygote.failure or "no application was named")))
        return
    from celery.concurrency.prefork import process_destructor, process_initializer

    table = SlotTable(memory)
    process_initializer(zygote.app, zygote.hostname)
    signal.signal(signal.SIGTERM, zygote.leave_to_supervisor)
    execute: Execute
    if options.role == "shadow":
        execute = CopyInspection(zygote.app).inspect
    else:
        execution = TaskExecution(zygote.app, zygote.hostname, options.topic, options.max_deliveries, table)
        signal.signal(signal.SIGUSR1, execution.on_soft_limit)
        execute = execution.run
    connection.send_bytes(dump_report(Report(ready=True)))
    exitcode = 0
    try:
        _work(connection, table, lock, execute)
    except SystemExit as leaving:
        # A task asked for it: its record is settled, and as in Celery the process ends.
        exitcode = leaving.code if isinstance(leaving.code, int) else 1
    finally:
        process_destructor(os.getpid(), exitcode)
    # Threads that a task left behind must not keep the process.
    os._exit(exitcode)


def _work(connection: Connection, table: SlotTable, lock: Any, execute: Execute) -> None:
    clock, monotonic = time.time, time.monotonic
    while True:
        try:
            frame = connection.recv_bytes()
        except (EOFError, OSError):
            return
        if not frame:
            return
        table.begin_work(monotonic())
        rows = []
        for item in load_batch(frame):
            slot = item.slot
            with lock:
                if table.state(slot) == WITHDRAWN:
                    continue
                started = clock()
                table.start(slot, started)
            result = execute(item)
            finished = clock()
            row = result.row(started if result.executed else 0.0, finished if result.executed else 0.0)
            if result.action:
                # The rows so far go first: one for every record that has ended, in order.
                rows.append(row)
                verdict = Verdict(slot, result.action, result.reason, result.detail, result.traceback)
                connection.send_bytes(dump_report(Report(verdicts=[verdict], rows=rows)))
                rows = []
                table.end(slot, started, finished, ATTENTION)
            else:
                rows.append(row)
                table.end(slot, started, finished, _CODES[result.outcome])
            if result.leave is not None:
                connection.send_bytes(dump_report(Report(rows=rows)))
                raise SystemExit(result.leave)
        connection.send_bytes(dump_report(Report(rows=rows, finished=True)))
        table.end_work(monotonic())
