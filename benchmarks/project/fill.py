"""
Work for a worker: `python -m benchmarks.project.fill celery|kafka|delayed TASKS [RECORDS]`.

Every message is made by `delay()`. Records are handed to Kafka a thousand at a time rather than one by one, because
how long dispatching takes is another benchmark's question; the first of them are also kept in the file RECORDS.
"""

from __future__ import annotations

import marshal
import sys
from pathlib import Path

import django

from taskbridge.exceptions import PublishError
from taskbridge.ports import ConfirmedPublisher
from taskbridge.record import Record

BATCH = 1_000

KEPT = 2_000
"""Records in the file, enough that no cache of the processor makes them look cheaper than they are."""


class Batching:
    """A ConfirmedPublisher that gathers records; the last ones wait for `flush`."""

    def __init__(self, publisher: ConfirmedPublisher) -> None:
        self._publisher = publisher
        self._waiting: list[tuple[str, Record]] = []
        self.kept: list[tuple[bytes, bytes, bytes]] = []

    def publish(self, topic: str, record: Record) -> None:
        """Take a record for the next batch."""
        self._waiting.append((topic, record))
        if len(self.kept) < KEPT:
            headers = dict(record.headers)
            self.kept.append((record.value, headers["celery-headers"], headers["celery-properties"]))
        if len(self._waiting) == BATCH:
            self.flush()

    def publish_many(self, records: list[tuple[str, Record]]) -> list[PublishError | None]:
        """Publish at once."""
        return list(self._publisher.publish_many(records))

    def flush(self) -> None:
        """Publish what waits; raise PublishError when one record was not taken."""
        for error in self.publish_many(self._waiting):
            if error is not None:
                raise error
        self._waiting = []


def fill_celery(tasks: int) -> None:
    """Dispatch to Celery's queue in Redis."""
    from benchmarks.project.plain import app

    app.loader.import_default_modules()
    task = app.tasks["benchmarks.project.tasks.nothing"]
    for _ in range(tasks):
        task.delay()


def fill_kafka(tasks: int, records: Path) -> None:
    """Dispatch to the service's topic, by the bridge's own way but for the batches."""
    from benchmarks.project.bridged import app
    from taskbridge.contrib.django.wiring import bridge_of
    from taskbridge.dispatch import Dispatcher

    app.loader.import_default_modules()
    bridge = bridge_of(app)
    batching = Batching(bridge.confirmed)
    dispatcher = Dispatcher(
        bridge.settings, bridge.flags, batching, bridge.best_effort, bridge.store, bridge.observer, bridge.numbering
    )
    app.amqp.dispatcher_factory = lambda _: dispatcher
    task = app.tasks["benchmarks.project.tasks.nothing"]
    for _ in range(tasks):
        task.delay()
    batching.flush()
    bridge.close()
    if (sent := dispatcher.counters.get("work", "kafka")) != tasks:
        sys.exit(f"only {sent} of {tasks} messages went to Kafka: {dispatcher.counters.snapshot()}")
    records.write_bytes(marshal.dumps(batching.kept))


def fill_delayed(tasks: int) -> None:
    """Dispatch with a countdown that outlasts every run, so that the bridge writes rows."""
    from benchmarks.project.bridged import app

    app.loader.import_default_modules()
    task = app.tasks["benchmarks.project.tasks.live"]
    for _ in range(tasks):
        task.apply_async(countdown=30 * 86_400)


def main() -> None:
    """Fill what the command line names."""
    django.setup()
    kind, tasks = sys.argv[1], int(sys.argv[2])
    if kind == "celery":
        fill_celery(tasks)
    elif kind == "delayed":
        fill_delayed(tasks)
    else:
        fill_kafka(tasks, Path(sys.argv[3]))


if __name__ == "__main__":
    main()
