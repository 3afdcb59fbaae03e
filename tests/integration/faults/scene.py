"""A project, its servers, and what can be seen of them from outside."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection
from contextlib import closing
from typing import Any, TypeVar

import psycopg2
import redis
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from devstack.service import Service
from devstack.stack import Stack
from taskbridge.record import decode
from taskbridge.worker.tracker import decode_runs
from tests.project.harness import Project, wait_for

T = TypeVar("T")

_LATER = {
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError._TIMED_OUT,
    KafkaError._TRANSPORT,
    # Metadata of a broker that has not found its logs again.
    KafkaError._UNKNOWN_PARTITION,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
}


class Scene:
    """One project on servers that may be hurt."""

    def __init__(self, project: Project, stack: Stack) -> None:
        self.project = project
        self.kafka: Service = stack["kafka"]
        self.postgres: Service = stack["postgres"]
        self.redis: Service = stack["redis"]
        self.topic = f"{project.prefix}.work"

    def move(self, stage: str, *arguments: str) -> None:
        """Bring the service to `mirror`, or through it to `live`."""
        self.project.cli("cutover", "work", "mirror")
        if stage == "live":
            self.project.cli(
                "cutover", "work", "live", "--percent", "100", "--override", "--reason", "a test", *arguments
            )

    def runs(self, ids: Collection[str]) -> dict[str, list[str]]:
        """Return on which workers the body of each of these tasks has begun."""
        found: defaultdict[str, list[str]] = defaultdict(list)
        for line in self.project.journal():
            if line["what"] == "prerun" and line["id"] in ids:
                found[line["id"]].append(line["worker"])
        return dict(found)

    def sides(self, ids: Collection[str]) -> Counter[str]:
        """Return how many bodies have begun on `kafka` and on `celery`."""
        workers = [worker for where in self.runs(ids).values() for worker in where]
        return Counter("kafka" if worker.startswith("taskbridge-") else "celery" for worker in workers)

    def ended(self, ids: Collection[str]) -> bool:
        """Return whether each of these tasks has ended at least once."""
        return set(ids) <= {line["id"] for line in self.project.journal() if line["what"] == "postrun"}

    def wait_until_ended(self, ids: Collection[str], timeout: float = 40.0) -> None:
        """Return once each of these tasks has ended at least once."""
        wait_for(lambda: self.ended(ids), f"the ends of {len(ids)} tasks", timeout, interval=0.1)

    def rows(self, table: str) -> set[str]:
        """Return the task ids in `delayed` or `outbox`."""
        with closing(psycopg2.connect(self.project.environment["DATABASE_URL"])) as connection:
            cursor = connection.cursor()
            cursor.execute(f"SELECT task_id FROM taskbridge_{table}")  # noqa: S608
            return {row[0] for row in cursor.fetchall()}

    def queued(self) -> int:
        """Return how many messages wait at Celery's broker."""
        with closing(redis.Redis.from_url(self.redis.url)) as client:
            return int(client.llen(self.project.prefix))  # type: ignore[arg-type]

    def records(self, topic: str) -> list[tuple[str, dict[str, str]]]:
        """Return the task id and the other headers of everything in a topic."""
        return patiently(lambda: self._records(topic))

    def _records(self, topic: str) -> list[tuple[str, dict[str, str]]]:
        with closing(self._reader()) as reader:
            numbers = reader.list_topics(topic, timeout=60).topics[topic].partitions
            places = [TopicPartition(topic, number, 0) for number in numbers]
            wanted = sum(reader.get_watermark_offsets(place, timeout=60)[1] for place in places)
            reader.assign(places)
            found: list[tuple[str, dict[str, str]]] = []
            while len(found) < wanted:
                for record in reader.consume(wanted - len(found), 10):
                    assert record.error() is None
                    headers: Any = record.headers()
                    message, rest = decode(record.value(), headers)
                    found.append((message.task_id, rest))
            return found

    def unfinished(self) -> int:
        """Return how many records the group has not committed, in its offsets or their metadata."""
        return patiently(self._unfinished)

    def _unfinished(self) -> int:
        with closing(self._reader(self.topic)) as reader:
            numbers = reader.list_topics(self.topic, timeout=60).topics[self.topic].partitions
            total = 0
            for one in reader.committed([TopicPartition(self.topic, number) for number in numbers], timeout=60):
                end = reader.get_watermark_offsets(one, timeout=60)[1]
                beyond = sum(stop - first for first, stop in decode_runs(one.offset, one.metadata or ""))
                total += end - one.offset - beyond
            return total

    def wait_until_committed(self) -> None:
        """Return once the group has committed everything."""
        wait_for(lambda: self.unfinished() == 0, "commits of all offsets", interval=0.2)

    def _reader(self, group: str = "reader") -> Any:
        return Consumer({"bootstrap.servers": self.kafka.url, "group.id": group})


def patiently(question: Callable[[], T]) -> T:
    """Return the answer to a question to Kafka, asked again while a broker that has just come back cannot answer."""
    answers: list[T] = []

    def answered() -> bool:
        try:
            answers.append(question())
        except KafkaException as error:
            if error.args[0].code() not in _LATER:
                raise
        return bool(answers)

    wait_for(answered, "an answer of Kafka", interval=0.1)
    return answers[0]
