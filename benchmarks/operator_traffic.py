"""Records and commits for the operator to see: of consumers that are a little behind, now more and now less."""

from __future__ import annotations

import random
import time
from multiprocessing.synchronize import Event

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from benchmarks.sampler import POLL, Consumers, commit

MOST = 5
"""Records that a partition gets in one turn, at the most."""
PATIENCE = 120.0
"""Seconds for a place among the records that wait to be sent."""


def traffic(servers: str, consumers: int, partitions: int, moving: int, stop: Event) -> None:
    """
    Write for the first `moving` consumers and commit what was written a turn before, a turn in each poll.

    Each has a lag of its own that is another in every turn, so that no status stays as it is.
    """
    present = Consumers(consumers, partitions, consumers)
    producer = Producer({"bootstrap.servers": servers, "log_level": 0, "linger.ms": 100})
    admin = AdminClient({"bootstrap.servers": servers, "log_level": 0})
    chance = random.Random(1)
    moved = present.requests[:moving]
    written = [0] * len(moved)
    began = time.monotonic()
    turn = 0
    while moved and not stop.is_set():
        for number, request in enumerate(moved):
            commit(admin, [request], partitions, written[number])
            count = chance.randint(0, MOST)
            for partition in range(partitions):
                for _ in range(count):
                    _write(producer, request.topics[0], partition)
            producer.poll(0)
            written[number] += count
            if stop.wait(max(0.0, began + (turn + (number + 1) / len(moved)) * POLL - time.monotonic())):
                break
        turn += 1
    producer.flush(30)


def _write(producer: Producer, topic: str, partition: int) -> None:
    """Write a record; raise BufferError when the broker takes none for long."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            producer.produce(topic, b"x", partition=partition)
        except BufferError:
            # A broker that shares the machine, and has thousands of partitions to tell of, may fall behind at first.
            if time.monotonic() > deadline:
                raise
            producer.poll(0.1)
        else:
            return
