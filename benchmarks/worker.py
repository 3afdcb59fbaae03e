"""The worker beside `celery worker`: the same no-op task, the same two cores, the same run."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click
import redis
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient

from benchmarks import tally
from benchmarks.grounds import BenchmarkFailedError, Grounds, Process, cpu_seconds, grounds, wait_for
from benchmarks.measure import Findings
from benchmarks.view import progress, show

PROCESSES = 2
TOPIC = GROUP = "bench.work"
PARTITIONS = 6
WARM_UP = 0.1
"""Part of the tasks that runs before the clock does: interpreters and estimates of durations are then warm."""

TIMEOUT = 300.0

CELERY = ("celery", "-A", "benchmarks.project.plain", "worker", "-c", str(PROCESSES), "-l", "WARNING")
TUNED = (*CELERY, "--prefetch-multiplier", "128", "--without-gossip", "--without-mingle", "--without-heartbeat")
TASKBRIDGE = ("taskbridge.cli", "worker", "--service", "work", "--processes", str(PROCESSES))

WORDS = {
    "ratio_worker_vs_celery_redis": "taskbridge worker / the better Celery worker",
    "of_limit": "taskbridge worker / decoding and tracing alone",
    "tasks_per_second_taskbridge": "taskbridge worker --processes 2, tasks/s",
    "tasks_per_second_celery": "celery worker -c 2, tasks/s",
    "tasks_per_second_celery_tuned": "celery worker -c 2, prefetching more, tasks/s",
    "tasks_per_second_limit": "decoding and tracing alone, 2 processes, tasks/s",
}


@dataclass(frozen=True, slots=True)
class Window:
    """What happened while the clock ran; CPU is in µs for each task, all processes of a kind together."""

    tasks_per_second: float
    cpu: Mapping[str, float]


def observe(folder: Path, tasks: int, processes: Sequence[Process], others: Mapping[str, int]) -> Window:
    """
    Measure from when all processes run tasks, and the first tenth is done, until `tasks` are done.

    `others` are process ids whose CPU time is of interest. Raises BenchmarkFailedError when a process ends, or when
    one began so late that less than half of the tasks were left.
    """

    def check() -> None:
        for process in processes:
            process.check()

    def begun() -> bool:
        counts = tally.read(folder)
        return len(counts) >= PROCESSES and all(counts.values()) and sum(counts.values()) >= WARM_UP * tasks

    wait_for(begun, "the first tenth of the tasks", TIMEOUT, check)
    start, before = time.perf_counter(), tally.read(folder)
    cpu_before = _cpu(before, others)
    first = sum(before.values())
    if first > tasks / 2:
        raise BenchmarkFailedError("the processes began too far apart: give more --tasks")
    wait_for(lambda: sum(tally.read(folder).values()) >= tasks, "the end of the tasks", TIMEOUT, check)
    end, after = time.perf_counter(), tally.read(folder)
    done = sum(after.values()) - first
    cpu_after = _cpu(before, others)
    return Window(
        tasks_per_second=done / (end - start),
        cpu={name: (cpu_after[name] - cpu_before[name]) / done * 1e6 for name in cpu_after},
    )


def _cpu(executors: Mapping[int, int], others: Mapping[str, int]) -> dict[str, float]:
    return {
        "executors": sum(cpu_seconds(pid) for pid in executors),
        **{name: cpu_seconds(pid) for name, pid in others.items()},
    }


class Contest:
    """The contestants; each method is one turn, and leaves nothing behind."""

    def __init__(self, place: Grounds, tasks: int, celery_tasks: int) -> None:
        self._place = place
        self._tasks = tasks
        self._celery_tasks = celery_tasks
        self._messages = place.folder / "messages"
        self._redis = redis.Redis.from_url(place.environment["REDIS_URL"])
        self._admin = AdminClient({"bootstrap.servers": place.environment["KAFKA_BOOTSTRAP_SERVERS"]})

    def prepare(self) -> None:
        """Move the service to Kafka and write its tasks there; every turn reads them anew."""
        self._place.move("work", "mirror", "live --percent 100")
        self._place.run("benchmarks.project.fill", "kafka", str(self._tasks), str(self._messages))

    @contextmanager
    def _running(self, *commands: Sequence[str]) -> Iterator[tuple[list[Process], Path]]:
        folder = self._place.folder / f"tally-{time.monotonic_ns()}"
        folder.mkdir()
        with self._place.started(commands, {tally.VARIABLE: str(folder)}) as processes:
            yield processes, folder

    def celery(self, command: Sequence[str]) -> Window:
        """Return what Celery's worker does with its queue in Redis."""
        self._place.run("benchmarks.project.fill", "celery", str(self._celery_tasks))
        with self._running(command) as ([worker], folder):
            server = self._place.stack["redis"].pid
            window = observe(folder, self._celery_tasks, [worker], {"main": worker.pid, "broker": server})
        self._check_count(folder, self._celery_tasks)
        if left := self._redis.llen("plain"):
            raise BenchmarkFailedError(f"celery worker left {left} messages")
        return window

    def taskbridge(self) -> Window:
        """Return what our worker does with the service's topic."""
        self._commit_all(0)
        with self._running(TASKBRIDGE) as ([worker], folder):
            server = self._place.stack["kafka"].pid
            window = observe(folder, self._tasks, [worker], {"main": worker.pid, "broker": server})
            if status := worker.end():
                raise BenchmarkFailedError(f"taskbridge worker ended with status {status}: {worker.log.read_text()}")
        self._check_count(folder, self._tasks)
        if (committed := self._committed()) != self._tasks:
            raise BenchmarkFailedError(f"taskbridge worker committed {committed} of {self._tasks} records")
        return window

    def limit(self) -> Window:
        """Return what two processes do that decode and trace, and nothing else."""
        bare = ("benchmarks.project.bare", str(self._messages))
        with self._running(*[bare] * PROCESSES) as (processes, folder):
            return observe(folder, self._tasks, processes, {})

    def _check_count(self, folder: Path, tasks: int) -> None:
        if (ran := sum(tally.read(folder).values())) != tasks:
            raise BenchmarkFailedError(f"{ran} tasks ran where {tasks} were dispatched")

    def _commit_all(self, offset: int) -> None:
        partitions = [TopicPartition(TOPIC, number, offset) for number in range(PARTITIONS)]
        request = [ConsumerGroupTopicPartitions(GROUP, partitions)]
        self._admin.alter_consumer_group_offsets(request)[GROUP].result(30)

    def _committed(self) -> int:
        # An administrator's client may crash where the group's coordinator has moved; this consumer never joins.
        consumer = Consumer(
            {"bootstrap.servers": self._place.environment["KAFKA_BOOTSTRAP_SERVERS"], "group.id": GROUP}
        )
        try:
            found = consumer.committed([TopicPartition(TOPIC, number) for number in range(PARTITIONS)], timeout=30)
        finally:
            consumer.close()
        return sum(max(0, one.offset) for one in found)


def measure(rounds: int, tasks: int, celery_tasks: int) -> Findings:
    """Start the servers, let the contestants take turns, and return what was found."""
    findings = Findings(
        "worker",
        ("ratio_worker_vs_celery_redis", "of_limit"),
        {"rounds": rounds, "tasks": tasks, "celery_tasks": celery_tasks, "processes": PROCESSES},
    )
    with grounds() as place, progress() as bar:
        contest = Contest(place, tasks, celery_tasks)
        turns = {
            "celery": lambda: contest.celery(CELERY),
            "taskbridge": contest.taskbridge,
            "celery_tuned": lambda: contest.celery(TUNED),
            "limit": contest.limit,
        }
        shown = bar.add_task("dispatching", total=rounds * len(turns))
        contest.prepare()
        for number in range(rounds):
            windows: dict[str, Window] = {}
            # To and fro, so that nobody always comes first.
            for name in list(turns) if number % 2 == 0 else reversed(turns):
                bar.update(shown, description=name)
                windows[name] = turns[name]()
                bar.advance(shown)
            _note(findings, windows)
    findings.machine.finish()
    return findings


def _note(findings: Findings, windows: Mapping[str, Window]) -> None:
    speed = {name: window.tasks_per_second for name, window in windows.items()}
    best = max(speed["celery"], speed["celery_tuned"])
    findings.add_ratio("ratio_worker_vs_celery_redis", speed["taskbridge"], best)
    findings.add_ratio("of_limit", speed["taskbridge"], speed["limit"])
    findings.add(**{f"tasks_per_second_{name}": value for name, value in speed.items()})
    for name, window in windows.items():
        findings.add(**{f"cpu_us_per_task_{name}_{part}": value for part, value in window.cpu.items()})


@click.command()
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True, help="Turns of each contestant.")
@click.option("--tasks", type=click.IntRange(10_000), default=120_000, show_default=True, help="Tasks for our worker.")
@click.option(
    "--celery-tasks", type=click.IntRange(1_000), default=6_000, show_default=True, help="Tasks for Celery's worker."
)
@click.option("--quick", is_flag=True, help="Two short rounds: to see that it works, not for figures.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object last.")
def main(rounds: int, tasks: int, celery_tasks: int, quick: bool, as_json: bool) -> None:
    """
    Measure how many no-op tasks per second two executor processes finish.

    Starts PostgreSQL, Redis and Kafka of its own and stops them. Each worker gets as many tasks as keep it busy for
    some seconds; what is compared is its rate while all of its processes work.

    \b
    Examples:
      python -m benchmarks.worker
      python -m benchmarks.worker --quick --json
    """
    if quick:
        rounds, tasks, celery_tasks = 2, 40_000, 2_000
    show(measure(rounds, tasks, celery_tasks), WORDS, as_json=as_json)


if __name__ == "__main__":
    main()
