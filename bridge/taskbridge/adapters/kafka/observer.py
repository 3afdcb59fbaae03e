"""
Observations on their way to Kafka.

Rows are gathered for a moment and sent together: written one by one they would cost a dispatch more than all else that
the bridge does for it.
"""

from __future__ import annotations

import atexit
import logging
import os
import time
from collections import defaultdict
from threading import Event, Lock, Thread

from taskbridge.adapters.kafka.producer import BestEffortProducer
from taskbridge.dispatch import ThrottledLog
from taskbridge.dispatch.forks import call_in_child
from taskbridge.observation import Batch, Kind, Row, dumps
from taskbridge.record import Record
from taskbridge.settings import Settings

logger = logging.getLogger("taskbridge.kafka")

GATHER = 0.1
"""Seconds for which rows are gathered."""

MOST_ROWS = 500
"""Rows of one record; about 150 kB."""

_Source = tuple[Kind, str, str]


def _let_others() -> None:
    # Gives the interpreter's lock away; encoding all rows at once would hold up a dispatch for milliseconds.
    time.sleep(0)


class KafkaObserver:
    """
    An Observer that writes to the observations topic, keyed by service.

    Rows leave after GATHER seconds, with MOST_ROWS of them, or by `flush`; a process that is killed takes those of the
    moment with it. A thread sees to it, started by the first row and started again in a forked child, which leaves its
    parent's rows to the parent.
    """

    def __init__(self, best_effort: BestEffortProducer, settings: Settings) -> None:
        self._best_effort = best_effort
        self._topic = settings.observations_topic
        self._log = ThrottledLog(logger)
        self._begin()
        call_in_child(self._begin)
        atexit.register(self.flush)

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._mutex = Lock()
        self._rows: defaultdict[_Source, list[Row]] = defaultdict(list)
        self._gathering = Event()
        self._thread: Thread | None = None

    def observe(self, batch: Batch) -> None:
        """Send the batch on its way; never raises."""
        if self._pid != os.getpid():
            self._begin()
        source = (batch.kind, batch.service, batch.source)
        with self._mutex:
            rows = self._rows[source]
            rows.extend(batch.rows)
            full = len(rows) >= MOST_ROWS
            if full:
                del self._rows[source]
            if self._thread is None:
                self._thread = Thread(
                    target=self._run, args=(self._gathering,), name="taskbridge-observer", daemon=True
                )
                self._thread.start()
        if full:
            self._send(source, rows)
        elif not self._gathering.is_set():
            self._gathering.set()

    def flush(self) -> None:
        """Hand all rows to the producer."""
        if self._pid != os.getpid():
            return
        with self._mutex:
            gathered, self._rows = self._rows, defaultdict(list)
        for source, rows in gathered.items():
            self._send(source, rows)

    def deliver(self, timeout: float) -> bool:
        """Return whether all that was observed is in the log, waiting at most `timeout` seconds."""
        self.flush()
        return self._best_effort.flush(timeout) == 0

    def _run(self, gathering: Event) -> None:
        while True:
            gathering.wait()
            time.sleep(GATHER)
            gathering.clear()
            self.flush()

    def _send(self, source: _Source, rows: list[Row]) -> None:
        for start in range(0, len(rows), MOST_ROWS):
            try:
                value = dumps(Batch(*source, rows[start : start + MOST_ROWS]), _let_others)
            except (TypeError, ValueError) as error:
                self._log.warning("dumps", "observations of service %s cannot be written: %r", source[1], error)
                continue
            self._best_effort.offer(self._topic, Record(source[1].encode(), value))
