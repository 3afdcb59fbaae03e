"""A plain consumer that takes the same time for every record, and notes when it did which; one process of a group."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

from confluent_kafka import Consumer, KafkaException


def consume(configuration: dict[str, str | int | bool], topic: str, rate: float, notes: Path) -> None:
    """
    Consume `rate` records a second until SIGTERM, and write a line for each: time, partition.

    Times are those of `time.time`. Raises KafkaException for an error that the client does not get over by itself.
    """
    running = True

    def end(*_: object) -> None:
        nonlocal running
        running = False

    signal.signal(signal.SIGTERM, end)
    consumer = Consumer(configuration)
    consumer.subscribe([topic])
    free = 0.0
    # Line by line: what was noted is there whenever somebody looks.
    with notes.open("w", buffering=1, encoding="ascii") as sink:
        while running:
            message = consumer.poll(0.1)
            if message is None:
                continue
            if (error := message.error()) is not None:
                raise KafkaException(error)
            now = time.time()
            free = max(free, now) + 1 / rate
            time.sleep(free - now)
            sink.write(f"{time.time():.3f} {message.partition()}\n")
    consumer.close()


def configuration(servers: str, group: str, protocol: str) -> dict[str, str | int | bool]:
    """Return the client's settings; `protocol` is `consumer` or the name of an assignor of the classic protocol."""
    how: dict[str, str | int | bool] = (
        {"group.protocol": "consumer"} if protocol == "consumer" else {"partition.assignment.strategy": protocol}
    )
    return {
        "bootstrap.servers": servers,
        "group.id": group,
        "auto.offset.reset": "earliest",
        # Few records of one partition at a time, so that partitions take turns.
        "max.partition.fetch.bytes": 1_000,
        "queued.min.messages": 1,
        "fetch.queue.backoff.ms": 5,
        **how,
    }


if __name__ == "__main__":
    servers_, group_, protocol_, topic_, rate_, notes_ = sys.argv[1:]
    consume(configuration(servers_, group_, protocol_), topic_, float(rate_), Path(notes_))
