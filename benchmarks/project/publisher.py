"""
The outbox publisher that people write themselves: `python -m benchmarks.project.publisher TOPIC`.

One loop: lock the oldest rows that nobody else has locked, produce them, wait for the acknowledgements, delete them,
commit. With two of these at once a key's messages may leave in the wrong order, a row goes where the loop says rather
than where a flag does, and a repeat after a crash is explained by nothing.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

import psycopg2
from confluent_kafka import KafkaError, Producer

BATCH = 500
IDLE = 0.05
"""Seconds between looks at an empty table."""

CLAIM = (
    "SELECT id, key, task, task_id, body, content_type, content_encoding, headers, properties FROM taskbridge_outbox"
    " ORDER BY id LIMIT %s FOR UPDATE SKIP LOCKED"
)


def publish(connection: Any, producer: Producer, topic: str) -> int:
    """Send one batch in one transaction; return how many rows it had. Raises RuntimeError for a failed delivery."""
    failures: list[KafkaError] = []

    def delivered(error: KafkaError | None, _: object) -> None:
        if error is not None:
            failures.append(error)

    with connection, connection.cursor() as cursor:
        cursor.execute(CLAIM, (BATCH,))
        rows = cursor.fetchall()
        for _, key, task, task_id, body, content_type, content_encoding, headers, properties in rows:
            named: list[tuple[str, str | bytes | None]] = [
                ("task", task),
                ("id", task_id),
                ("content-type", content_type),
                ("content-encoding", content_encoding),
                ("celery-headers", bytes(headers)),
                ("celery-properties", bytes(properties)),
            ]
            producer.produce(topic, bytes(body), key, headers=named, on_delivery=delivered)
        producer.flush()
        if failures:
            raise RuntimeError(failures[0].str())
        if rows:
            cursor.execute("DELETE FROM taskbridge_outbox WHERE id = ANY(%s)", ([row[0] for row in rows],))
    return len(rows)


def main() -> None:
    """Publish until ended."""
    connection = psycopg2.connect(os.environ["DATABASE_URL"])
    producer = Producer(
        {
            "bootstrap.servers": os.environ["KAFKA_BOOTSTRAP_SERVERS"],
            "enable.idempotence": True,
            "acks": "all",
            "partitioner": "murmur2_random",
        }
    )
    while True:
        if not publish(connection, producer, sys.argv[1]):
            time.sleep(IDLE)


if __name__ == "__main__":
    main()
