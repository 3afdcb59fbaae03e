"""
Counts of several processes, brought together in a folder: the multiprocess mode of Prometheus' client.

A server that answers a scrape in one of its processes knows nothing of the others. In this mode each writes what it
counts to a file of its own, and whoever is asked adds all of them up. The folder is that of `PROMETHEUS_MULTIPROC_DIR`,
the client's own variable, and holds what ended processes counted, too: empty it before the first one starts.
"""

from __future__ import annotations

import atexit
import logging
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from errno import ENOENT
from multiprocessing import current_process
from threading import Event, Lock, Thread
from typing import Any

from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector, CollectorRegistry
from prometheus_client.values import MultiProcessValue

from taskbridge.adapters.monitoring.exposition import Read
from taskbridge.adapters.monitoring.samples import Distribution
from taskbridge.dispatch.forks import call_before_fork, call_in_child
from taskbridge.worker.executors import EXECUTOR

log = logging.getLogger("taskbridge.metrics")

FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"

WRITE_INTERVAL = 1.0
"""Seconds between two looks at the counts; a process that is killed takes those of the moment with it."""


@dataclass(slots=True)
class _Written:
    """A place in the file, and how much of what stands there is ours."""

    place: Any
    count: float = 0


class SharedCounts:
    """
    Writes what this process counts to its file, from a thread of its own.

    To count there at every dispatch would cost the dispatch more than its counters do. A forked child begins at zero,
    with a thread and a file of its own; an executor that takes the place of one that died goes on in that one's file.
    """

    def __init__(self, read: Read) -> None:
        """`read` returns counters only."""
        self._read = read
        # A fork waits until nothing is being written: a lock inside the client would else stay locked in the child.
        call_before_fork(self._hold)
        os.register_at_fork(after_in_parent=self._let_go)
        call_in_child(self._begin)
        atexit.register(self.close)
        process = current_process()
        # Executors may die by the hundred, and what is left of them must not fill the folder.
        self._begin(f"{os.getppid()}-{process.name}" if process.name.startswith(EXECUTOR) else "")

    def _hold(self) -> None:
        self._lock.acquire()

    def _let_go(self) -> None:
        self._lock.release()

    def _begin(self, name: str = "") -> None:
        self._lock = Lock()
        # Beside the files of the application's own metrics, which must not be written to by two.
        name = f"{name or os.getpid()}-taskbridge"
        make: Any = MultiProcessValue
        self._make: Any = make(process_identifier=lambda: name)
        self._written: dict[tuple[str, tuple[str, ...]], _Written] = {}
        Thread(target=self._run, name="metrics", daemon=True).start()

    def _run(self) -> None:
        pause = Event()
        while not pause.wait(WRITE_INTERVAL):
            try:
                self.write()
            except OSError as error:
                log.warning("metrics cannot be written to the folder of %s: %s", FOLDER_VARIABLE, error)
                return

    def write(self) -> None:
        """Write the counts as they are now; raises OSError."""
        if not os.environ.get(FOLDER_VARIABLE):
            raise FileNotFoundError(ENOENT, "it is not set any more", FOLDER_VARIABLE)
        with self._lock:
            for family, labels, value in self._read():
                if isinstance(value, Distribution):
                    continue
                written = self._written.get((family.name, labels))
                if written is None:
                    name = family.name.removesuffix("_total")
                    place = self._make("counter", name, family.name, family.labels, labels, family.meaning)
                    written = self._written[family.name, labels] = _Written(place)
                if value != written.count:
                    written.place.inc(value - written.count)
                    written.count = value

    def close(self) -> None:
        """Write the counts for the last time; that they cannot be written was said before."""
        with suppress(OSError):
            self.write()


class AllProcesses(Collector):
    """What all processes have written to a folder, those of the application's own metrics among them."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics, added up."""
        collector: Any = MultiProcessCollector
        yield from collector(CollectorRegistry(), self._folder).collect()
