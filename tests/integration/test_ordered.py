"""An ordered service keeps the order of each key, whatever side its keys are on, and while they change it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing

import pytest
import redis

from tests.project.harness import Project, project, wait_for


@pytest.fixture
def turns(servers: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """The project with an ordered service, and nothing running."""
    directory = tmp_path_factory.mktemp("turns")
    with project(directory, f"turns{time.monotonic_ns() % 10**9}", servers, BRIDGED_TURNS="1") as one:
        one.environment["BRIDGED_FLAG_STALE_AFTER"] = "1"
        one.cli("topics")
        yield one


PRODUCE = """
import sys, django
django.setup()
from bridged.celery import app
from bridged import turns
turns.main(float(sys.argv[1]), float(sys.argv[2]), sys.argv[3:])
"""


class Producer:
    """A process that dispatches numbered messages of some keys without a pause."""

    def __init__(self, of: Project, keys: list[str], pause: float = 0.1, seconds: float = 0.0) -> None:
        self.keys = keys
        self.log = of.directory / f"producer-{keys[0]}.log"
        with self.log.open("wb") as sink:
            self.process = subprocess.Popen(
                [sys.executable, "-c", PRODUCE, str(pause), str(seconds), *keys],
                env=of.environment,
                cwd=of.directory,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=sink,
            )

    def stop(self) -> int:
        """End it; return how many messages each key got."""
        output, _ = self.process.communicate(timeout=90)
        assert self.process.returncode == 0, self.log.read_text()
        return int(output)


def lines(of: Project, key: str) -> list[str]:
    with closing(redis.Redis.from_url(of.environment["REDIS_URL"], decode_responses=True)) as client:
        found: list[str] = client.lrange(f"{of.prefix}:turns:{key}", 0, -1)  # type: ignore[assignment]
    return found


def move(of: Project, *command: str) -> None:
    """Move the service, however often it is told to wait."""

    def done() -> bool:
        ended = of.cli(*command, check=False)
        assert ended.returncode == 0 or "repeat in" in ended.stderr, ended.stderr
        return ended.returncode == 0

    wait_for(done, " ".join(command), interval=0.2)


MOVES = {
    "mirror": ("cutover", "turns", "mirror"),
    "live": ("cutover", "turns", "live", "--percent", "100", "--override", "--reason", "a test"),
    "half": ("cutover", "turns", "live", "--percent", "50", "--override", "--reason", "a test"),
    "kill": ("kill", "turns", "--reason", "a test"),
}


CHANGES = (
    ("live", True),
    ("mirror", True),
    ("live", False),
    ("kill", True),
    ("mirror", False),
    ("half", True),
    ("live", False),
    ("mirror", False),
    ("live", True),
    ("kill", False),
    ("mirror", False),
    ("live", True),
)
"""Moves, and whether the keys that change side are waited for before the next one."""


@pytest.mark.timeout(300)
def test_each_key_keeps_its_order_through_ten_changes_of_side(turns: Project) -> None:
    turns.celery_worker(concurrency=1)
    turns.kafka_worker(processes=2, service="turns")
    turns.relay()
    look = turns.console()
    move(turns, *MOVES["mirror"])
    producers = [Producer(turns, [f"p{number}-{letter}" for letter in "abcd"]) for number in range(3)]
    try:
        for name, changed in CHANGES:
            move(turns, *MOVES[name])
            if changed:
                wait_for(lambda: look.ask("bridge.store.flag_states()['turns'].flag.fence is None"), "keys have moved")
                at = sum(len(lines(turns, producer.keys[0])) for producer in producers)
                wait_for(
                    lambda at=at: sum(len(lines(turns, producer.keys[0])) for producer in producers) > at + 50,
                    "some messages were executed on the new side",
                )
    finally:
        numbers = {key: number for producer in producers for number in [producer.stop()] for key in producer.keys}
    wait_for(
        lambda: all(len(lines(turns, key)) >= 2 * number for key, number in numbers.items()),
        "everything was executed",
        timeout=90,
    )
    sides: Counter[str] = Counter()
    for key, number in numbers.items():
        seen = lines(turns, key)
        assert [line.rpartition(" ")[0] for line in seen] == [
            f"{turn} {what}" for turn in range(number) for what in ("begins", "ends")
        ], key
        sides.update(line.rpartition(" ")[2] for line in seen)
    assert set(sides) == {"celery", "taskbridge-turns"}
    assert min(sides.values()) > 200, sides
    assert look.ask("len(bridge.store.pending_counts()['outbox'])") == 0


def test_a_killed_executor_does_not_let_later_messages_pass(turns: Project) -> None:
    turns.stand("turns", "live", 10_000)
    worker = turns.kafka_worker(processes=2, service="turns")
    producer = Producer(turns, ["a", "b", "c"], pause=0.05, seconds=0.05)
    for round_ in range(1, 3):
        wait_for(lambda at=round_: len(lines(turns, "a")) > 20 * at, "some turns were taken")
        for executor in worker.executors():
            os.kill(executor, signal.SIGKILL)
        wait_for(lambda at=round_: worker.output().count(" died (lost") >= at, "an executor died at work")
    number = producer.stop()
    wait_for(lambda: all(f"{number - 1} ends" in lines(turns, key)[-1] for key in producer.keys), "all were executed")
    for key in producer.keys:
        begun = -1
        for line in lines(turns, key):
            turn, what, _ = line.split()
            # The one that was cut off may begin, or end, once more; nothing comes before its turn.
            assert int(turn) in {begun, begun + 1}, f"{key}: {line} after {begun}"
            begun = max(begun, int(turn)) if what == "begins" else begun
        assert begun == number - 1
