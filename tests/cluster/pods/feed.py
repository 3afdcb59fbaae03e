"""Writes as many records as the first argument says, with the second as their value, spread over all partitions."""

from __future__ import annotations

import sys

from client import CLIENT, PARTITIONS, TOPIC
from confluent_kafka import Producer

producer = Producer(CLIENT)
failures: list[object] = []
for number in range(int(sys.argv[1])):
    producer.produce(
        TOPIC,
        sys.argv[2].encode(),
        partition=number % PARTITIONS,
        on_delivery=lambda error, _: failures.append(error) if error else None,
    )
if producer.flush(60) or failures:
    sys.exit(f"not written: {failures}")
