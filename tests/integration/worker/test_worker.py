"""The worker among real servers, and among the faults that real servers and processes have."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from tests.project.harness import Project, Started, wait_for


@pytest.fixture(scope="module")
def live(bridged: Project) -> Project:
    """The project with every message of `work` going to Kafka."""
    bridged.cli("cutover", "work", "mirror")
    bridged.cli("cutover", "work", "live", "--percent", "100", "--override", "--reason", "a test")
    return bridged


@pytest.fixture
def worker(live: Project) -> Iterator[Started]:
    """The only worker, and the only one left for the next test: whatever a test starts besides ends with it."""
    yield live.kafka_worker()
    live.stop()


def dispatch(live: Project, task: str, count: int, *args: Any) -> set[str]:
    """Dispatch a task `count` times; return the ids."""
    code = f"print(json.dumps([tasks.{task}.delay(*{args!r}).id for _ in range({count})]))"
    return set(live.script(code))


def runs(live: Project, ids: set[str]) -> Counter[str]:
    """Return how often the body of each of the tasks has begun."""
    return Counter(line["id"] for line in live.journal() if line["what"] == "prerun" and line["id"] in ids)


def ended(live: Project, ids: set[str]) -> bool:
    """Return whether the body of each of the tasks has ended at least once."""
    return ids <= {line["id"] for line in live.journal() if line["what"] == "postrun"}


def dead_letters(live: Project) -> dict[tuple[str, str], dict[str, str]]:
    """Return the headers of everything in the dead-letter topic, by the partition and offset that it came from."""
    consumer = Consumer({"bootstrap.servers": live.environment["KAFKA_BOOTSTRAP_SERVERS"], "group.id": "reader"})
    try:
        topic = f"{live.prefix}.work.dlq"
        partitions = consumer.list_topics(topic, timeout=60).topics[topic].partitions
        wanted = 0
        for number in partitions:
            wanted += consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=60)[1]
        consumer.assign([TopicPartition(topic, number, 0) for number in partitions])
        found: list[dict[str, str]] = []
        while len(found) < wanted:
            for message in consumer.consume(wanted - len(found), 10):
                assert message.error() is None
                found.append({name: (value or b"").decode() for name, value in message.headers() or []})
        return {(letter["dlq-partition"], letter["dlq-offset"]): letter for letter in found}
    finally:
        consumer.close()


def uncommitted(live: Project) -> set[str]:
    """Return the ids of the records that the group has not committed, by watermark and metadata."""
    brokers = live.environment["KAFKA_BOOTSTRAP_SERVERS"]
    consumer = Consumer({"bootstrap.servers": brokers, "group.id": f"{live.prefix}.work"})
    try:
        topic = f"{live.prefix}.work"
        partitions = [TopicPartition(topic, number) for number in consumer.list_topics(topic).topics[topic].partitions]
        ids: set[str] = set()
        for one in consumer.committed(partitions, timeout=60):
            end = consumer.get_watermark_offsets(one, timeout=60)[1]
            finished: set[int] = set()
            position = one.offset
            lengths = [int(text) for text in (one.metadata or "").partition("beyond=")[2].split(".") if text]
            for skipped, done in zip(lengths[::2], lengths[1::2], strict=True):
                finished.update(range(position + skipped, position + skipped + done))
                position += skipped + done
            reader = Consumer({"bootstrap.servers": brokers, "group.id": "reader"})
            reader.assign([TopicPartition(topic, one.partition, one.offset)])
            offset = one.offset
            while offset < end:
                message = reader.poll(10)
                assert message is not None
                assert message.error() is None
                offset = message.offset() + 1
                if message.offset() not in finished:
                    ids.add(dict(message.headers())["id"].decode())
            reader.close()
        return ids
    finally:
        consumer.close()


@pytest.mark.parametrize("whole_group", [False, True], ids=["supervisor", "every process"])
def test_sigterm_in_the_middle_of_work_loses_and_repeats_nothing(
    live: Project, worker: Started, whole_group: bool
) -> None:
    ids = dispatch(live, "naps", 100, 0.05)
    wait_for(lambda: len(runs(live, ids)) >= 5, "the first tasks")
    if whole_group:
        # As `timeout` and some process managers do.
        os.killpg(worker.process.pid, signal.SIGTERM)
    assert worker.terminate() == 0
    assert 0 < len(runs(live, ids)) < len(ids), "the worker was to be stopped in the middle"
    live.kafka_worker()
    wait_for(lambda: ended(live, ids), "the rest of the tasks")
    assert set(runs(live, ids).values()) == {1}


def test_asked_twice_the_worker_ends_at_once(live: Project, worker: Started) -> None:
    ids = dispatch(live, "naps", 1, 15)
    wait_for(lambda: runs(live, ids), "the task's beginning")
    worker.process.send_signal(signal.SIGINT)
    worker.wait_for_output("stopping")
    worker.process.send_signal(signal.SIGINT)
    assert worker.process.wait(60) == 0
    assert not ended(live, ids)
    live.kafka_worker()
    wait_for(lambda: ended(live, ids), "the task's second run")
    assert runs(live, ids) == Counter(dict.fromkeys(ids, 2))


def test_a_killed_executor_costs_only_what_it_ran(live: Project, worker: Started) -> None:
    ids = dispatch(live, "naps", 40, 0.1)
    wait_for(lambda: len(runs(live, ids)) >= 2, "the first tasks")
    os.kill(worker.executors()[0], signal.SIGKILL)
    wait_for(lambda: len(runs(live, ids)) == len(ids), "all tasks")
    counts = runs(live, ids)
    letters = [letter for letter in dead_letters(live).values() if letter["id"] in ids]
    wait_for(lambda: ended(live, ids - {letter["id"] for letter in letters}), "the ends of all but the lost one")
    assert set(counts.values()) == {1}
    assert [letter["dlq-reason"] for letter in letters] in ([], ["worker_lost"])


def test_a_killed_worker_repeats_only_what_was_in_flight(live: Project, worker: Started) -> None:
    ids = dispatch(live, "naps", 300, 0.05)
    wait_for(lambda: len(runs(live, ids)) >= 30, "the first tasks")
    worker.kill()
    before, in_flight = runs(live, ids), uncommitted(live)
    assert 0 < len(before) < len(ids)
    live.kafka_worker()
    wait_for(lambda: ended(live, ids), "the rest of the tasks")
    after = runs(live, ids)
    assert set(after) == ids
    repeated = {task_id for task_id, count in after.items() if count > 1}
    assert repeated == set(before) & in_flight
    assert max(after.values()) <= 2


@pytest.mark.parametrize("protocol", ["consumer", "classic"])
def test_workers_that_come_and_go_repeat_nothing(live: Project, protocol: str) -> None:
    live.environment["BRIDGED_GROUP_PROTOCOL"] = protocol
    first = live.kafka_worker()
    ids = dispatch(live, "naps", 300, 0.02)
    second = live.kafka_worker()
    wait_for(lambda: len(runs(live, ids)) >= 100, "the first hundred tasks")
    assert second.terminate() == 0
    wait_for(lambda: ended(live, ids), "all tasks")
    assert set(runs(live, ids).values()) == {1}
    assert first.terminate() == 0
    live.environment["BRIDGED_GROUP_PROTOCOL"] = "consumer"


def test_a_long_task_keeps_the_group_and_the_others_going(live: Project, worker: Started) -> None:
    (slow,) = dispatch(live, "naps", 1, 6)
    wait_for(lambda: runs(live, {slow}), "the slow task's beginning")
    quick = dispatch(live, "nothing", 200)
    wait_for(lambda: ended(live, quick | {slow}), "all tasks")
    order = [line["id"] for line in live.journal() if line["what"] == "postrun" and line["id"] in quick | {slow}]
    assert order.index(slow) > 0, "the others did not go on meanwhile"
    assert set(runs(live, quick | {slow}).values()) == {1}


def test_records_that_cannot_run_are_dead_lettered(live: Project, worker: Started) -> None:
    already = dead_letters(live)
    producer = Producer({"bootstrap.servers": live.environment["KAFKA_BOOTSTRAP_SERVERS"]})
    headers = {
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "task": "bridged.tasks.add",
        "id": "an-id",
        "celery-headers": '{"task": "bridged.tasks.add", "id": "an-id"}',
        "celery-properties": "{}",
    }
    topic = f"{live.prefix}.work"
    for value, changed in [
        (b"not json", {}),
        (None, {}),
        (b"[[1, 2], {}, {}]", {"celery-headers": "not json"}),
        (b"\x80\x04K\x01.", {"content-type": "application/x-python-serialize", "content-encoding": "binary"}),
        (b"[[1, 2], {}, {}]", {"task": "bridged.tasks.of_another_version"}),
        (b"[1, 2]", {}),
    ]:
        producer.produce(topic, value, b"key", headers=list({**headers, **changed}.items()))
    producer.produce(topic, b"[[1, 2], {}, {}]", b"key")
    assert producer.flush(10) == 0
    wait_for(lambda: len(dead_letters(live)) == len(already) + 7, "seven dead letters")
    letters = [letter for origin, letter in dead_letters(live).items() if origin not in already]
    assert Counter(letter["dlq-reason"] for letter in letters) == {"malformed": 6, "unknown_task": 1}
    assert all(letter["dlq-topic"] == topic and letter["dlq-offset"].isdecimal() for letter in letters)
    assert any("pickle never is" in letter["dlq-detail"] for letter in letters)
    result = live.script("print(json.dumps(tasks.add.delay(20, 22).get(timeout=80)))")
    assert result == 42


def test_a_topic_that_is_missing_is_said(live: Project) -> None:
    done = live.cli("worker", "--service", "elsewhere", check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        f"error: topic {live.prefix}.elsewhere does not exist; run `taskbridge topics` to create what is missing"
    )


def test_an_unknown_service_is_said(live: Project) -> None:
    done = live.cli("worker", "--service", "nonsense", check=False)
    assert done.returncode == 2
    assert done.stderr == "error: there is no service 'nonsense'; TASKBRIDGE names: elsewhere, work\n"


def test_a_group_without_offsets_is_not_guessed_at(live: Project) -> None:
    done = live.kafka_worker("--role", "shadow")
    assert done.terminate() == 0
    live.script(
        "from confluent_kafka.admin import AdminClient\n"
        "import os\n"
        "client = AdminClient({'bootstrap.servers': os.environ['KAFKA_BOOTSTRAP_SERVERS']})\n"
        f"client.delete_consumer_groups(['{live.prefix}.work.shadow'])['{live.prefix}.work.shadow'].result()\n"
    )
    started = live.kafka_worker("--role", "shadow")
    started.wait_for_output("run `taskbridge topics` to set it")
    assert started.terminate() == 0
    live.cli("topics")
