"""
What is known besides the bridge's own report: the shop's journal, and what Kafka says was in flight.

The journal is written by Celery's signals into the shop's database, so it does not depend on the bridge being right.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg2
from confluent_kafka import Consumer, TopicPartition

from taskbridge.worker.tracker import decode_runs

RUNS_BY_SIDE = """
    SELECT split_part(task, '.', 2), side, count(*) FROM journal_run
    WHERE started_at >= to_timestamp(%s) GROUP BY 1, 2
"""
REPEATED = """
    SELECT task_id, retries, replaced_task_nesting, max(task), count(*) FROM journal_run
    GROUP BY 1, 2, 3 HAVING count(*) > 1
"""

RUNNING = """
    SELECT pid FROM journal_run WHERE side = 'kafka' AND finished_at IS NULL AND split_part(task, '.', 2) = %s
"""
BEGUN = "SELECT DISTINCT task_id FROM journal_run WHERE task_id = ANY(%s)"


@dataclass(frozen=True)
class Repeat:
    """A dispatch that ran more than once."""

    task_id: str
    retries: int
    nesting: int
    task: str
    times: int


class Journal:
    """Reads the shop's journal."""

    def __init__(self, database_url: str) -> None:
        self._url = database_url

    def runs_by_side(self, since: float) -> Counter[tuple[str, str]]:
        """Return how many tasks began since a moment (seconds since the epoch), by service and side."""
        return Counter({(service, side): count for service, side, count in self._rows(RUNS_BY_SIDE, since)})

    def repeats(self) -> list[Repeat]:
        """Return every dispatch that ran more than once."""
        return [Repeat(*row) for row in self._rows(REPEATED)]

    def executors_at_work(self, service: str) -> set[int]:
        """Return the process ids in which tasks of a service run on Kafka's side at this moment."""
        return {pid for (pid,) in self._rows(RUNNING, service)}

    def begun(self, tasks: set[str]) -> set[str]:
        """Return those of the tasks whose body has begun at least once."""
        return {task_id for (task_id,) in self._rows(BEGUN, list(tasks))}

    def _rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        connection = psycopg2.connect(self._url)
        try:
            with connection.cursor() as cursor:
                cursor.execute(query, values)
                return list(cursor.fetchall())
        finally:
            connection.close()


def in_flight(bootstrap_servers: str, topic: str, group: str) -> dict[str, set[str]]:
    """
    Return the tasks in a topic that a group has not committed, each with the ids of those that it dispatches last.

    The first is what a crash of the group's worker may repeat. A task that runs twice also dispatches its chain twice,
    under the ids that the chain got when it was made.

    Counted are records at or behind the committed offset that the commit's metadata does not call finished.
    """
    config = {"bootstrap.servers": bootstrap_servers, "group.id": group, "enable.auto.commit": False}
    consumer = Consumer(config)
    reader = Consumer({**config, "group.id": f"{group}.evidence", "auto.offset.reset": "earliest"})
    found: dict[str, set[str]] = {}
    try:
        numbers = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        for position in consumer.committed([TopicPartition(topic, number) for number in numbers], timeout=10):
            end = consumer.get_watermark_offsets(position, timeout=10)[1]
            finished = decode_runs(position.offset, position.metadata or "")
            reader.assign([TopicPartition(topic, position.partition, position.offset)])
            offset = position.offset
            while offset < end:
                message = reader.poll(10)
                if message is None or message.error():
                    break
                offset = (message.offset() or 0) + 1
                if not any(start <= offset - 1 < stop for start, stop in finished):
                    task_id = dict(message.headers() or [])["id"].decode()
                    found[task_id] = set(_task_ids(json.loads(message.value() or b"null")))
    finally:
        consumer.close()
        reader.close()
    return found


def _task_ids(value: Any) -> Iterator[str]:
    """Yield every task id in the signatures that a message body carries along."""
    if isinstance(value, dict):
        if isinstance(value.get("task_id"), str):
            yield value["task_id"]
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _task_ids(item)
