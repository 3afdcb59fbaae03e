"""Consumes one record after the other, each for as many seconds as it says; with `poison` it is never done."""

from __future__ import annotations

import signal
import sys
import time

from client import CLIENT, TOPIC
from confluent_kafka import Consumer

signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
consumer = Consumer(
    {
        **CLIENT,
        "group.id": TOPIC,
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
        "partition.assignment.strategy": "cooperative-sticky",
        "session.timeout.ms": 10_000,
        "fetch.wait.max.ms": 100,
    }
)
consumer.subscribe([TOPIC])
try:
    while True:
        record = consumer.poll(0.5)
        if record is None or record.error():
            continue
        while record.value() == b"poison":
            # It stays in the group, and tries again for ever.
            consumer.pause(consumer.assignment())
            consumer.poll(0.5)
        time.sleep(float(record.value()))
        consumer.commit(record, asynchronous=False)
finally:
    consumer.close()
