"""The relay on one core: due rows of the database onto Kafka, beside the loop that people write themselves."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import click
import psycopg2
from confluent_kafka import Consumer, TopicPartition

from benchmarks.grounds import BenchmarkFailedError, Grounds, cpu_seconds, grounds, wait_for
from benchmarks.measure import Findings
from benchmarks.view import progress, show
from taskbridge.contrib.django.store import shard

SERVICE = "live"
TOPIC = f"bench.{SERVICE}"
PARTITIONS = 6
TIMEOUT = 120.0
WARM_UP = 1_000
"""Rows before those that count: connections are then open, and the topic is known."""

RELAY = ("taskbridge.cli", "relay")
CONTESTANTS = {
    "delayed": (RELAY, "delayed"),
    "outbox": (RELAY, "outbox"),
    "loop": (("benchmarks.project.publisher", TOPIC), "outbox"),
}
"""What figures are called -> the module that is run, and the table that it empties."""

WORDS = {
    "rows_per_second_delayed": "taskbridge relay, rows that are due, rows/s",
    "rows_per_second_outbox": "taskbridge relay, rows of the outbox, rows/s",
    "rows_per_second_loop": "select, produce, flush, delete: rows of the outbox, rows/s",
    "ratio_relay_vs_loop": "taskbridge relay / that loop, both on the outbox",
}

COPIES = """
INSERT INTO taskbridge_{table} (service, key, shard, task, task_id, body, content_type, content_encoding, headers,
    properties, epoch, producer, seq, attempts, created_at, {column})
SELECT service, copy.id, copy.shard, task, copy.id, body, content_type, content_encoding,
    convert_to(replace(convert_from(headers, 'UTF8'), task_id, copy.id), 'UTF8'),
    convert_to(replace(convert_from(properties, 'UTF8'), task_id, copy.id), 'UTF8'),
    epoch, producer, seq, 0, now(), {value}
FROM taskbridge_delayed, unnest(%s::text[], %s::integer[]) AS copy (id, shard) WHERE due > now() + interval '1 day'
"""
"""Makes messages, each with a key of its own, out of the one that a real dispatch has put aside for a month."""

OWN_COLUMN = {"delayed": ("due", "now()"), "outbox": ("road", "'kafka'")}


@dataclass(frozen=True, slots=True)
class Turn:
    """One contestant's speed, its processor time for a row in µs, and the part of its core that it used."""

    rows_per_second: float
    cpu: float
    busy: float


class Contest:
    """The contestants; each has the first core to itself, and all servers share the second."""

    def __init__(self, place: Grounds, rows: int) -> None:
        """Raises BenchmarkFailedError when there is only one core."""
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) < 2:
            raise BenchmarkFailedError("the relay and the servers need a core each, and there is only one")
        self._core, self._servers_core = cores[:2]
        self._place = place
        self._rows = rows
        self._connection = psycopg2.connect(place.environment["DATABASE_URL"])
        self._connection.autocommit = True

    def prepare(self) -> None:
        """Move the service to Kafka, put the one message aside, and give the servers their core."""
        self._place.move(SERVICE, "mirror", "live --percent 100")
        self._place.run("benchmarks.project.fill", "delayed", "1")
        for name in ("postgres", "kafka"):
            _pin(self._place.stack[name].pid, self._servers_core)

    def turn(self, command: Sequence[str], table: str) -> Turn:
        """Return how fast the process empties a table that fills at once."""
        sent_before = self._on_kafka()
        with self._place.started([command], {}) as [process]:
            _pin(process.pid, self._core)
            self._fill(table, WARM_UP)
            wait_for(lambda: self._is_empty(table), "the end of the first rows", TIMEOUT, process.check)
            cpu = cpu_seconds(process.pid)
            start = self._fill(table, self._rows)
            wait_for(lambda: self._is_empty(table), "the end of the rows", TIMEOUT, process.check)
            seconds = time.perf_counter() - start
            used = cpu_seconds(process.pid) - cpu
        if (sent := self._on_kafka() - sent_before) != WARM_UP + self._rows:
            raise BenchmarkFailedError(f"{sent} records came to Kafka of {WARM_UP + self._rows} rows")
        return Turn(self._rows / seconds, used / self._rows * 1e6, used / seconds)

    def _fill(self, table: str, rows: int) -> float:
        """Write rows in one statement; return when they could be seen."""
        ids = [str(uuid4()) for _ in range(rows)]
        column, value = OWN_COLUMN[table]
        with self._connection.cursor() as cursor:
            cursor.execute(
                COPIES.format(table=table, column=column, value=value), (ids, [shard(SERVICE, one) for one in ids])
            )
        return time.perf_counter()

    def _is_empty(self, table: str) -> bool:
        due = " AND due <= now()" if table == "delayed" else ""
        with self._connection.cursor() as cursor:
            cursor.execute(f"SELECT NOT EXISTS (SELECT FROM taskbridge_{table} WHERE true{due})")  # noqa: S608
            return bool(cursor.fetchone()[0])

    def _on_kafka(self) -> int:
        servers = self._place.environment["KAFKA_BOOTSTRAP_SERVERS"]
        consumer = Consumer({"bootstrap.servers": servers, "group.id": "count"})
        try:
            ends = [consumer.get_watermark_offsets(TopicPartition(TOPIC, number), 30.0) for number in range(PARTITIONS)]
        finally:
            consumer.close()
        return sum(high for _, high in ends)


def _pin(pid: int, core: int) -> None:
    """Keep a process and its children on one core, all threads; what they start later inherits that."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), {core})
        for child in (thread / "children").read_text().split():
            _pin(int(child), core)


def measure(rounds: int, rows: int) -> Findings:
    """Start the servers, let the contestants take turns, and return what was found."""
    findings = Findings("relay", tuple(WORDS), {"rounds": rounds, "rows": rows})
    with grounds() as place, progress() as bar:
        contest = Contest(place, rows)
        shown = bar.add_task("", total=rounds * len(CONTESTANTS))
        contest.prepare()
        for number in range(rounds):
            turns: dict[str, Turn] = {}
            # To and fro, so that nobody always comes first.
            for name in list(CONTESTANTS) if number % 2 == 0 else reversed(CONTESTANTS):
                bar.update(shown, description=name)
                turns[name] = contest.turn(*CONTESTANTS[name])
                bar.advance(shown)
            _note(findings, turns)
    findings.machine.finish()
    return findings


def _note(findings: Findings, turns: Mapping[str, Turn]) -> None:
    findings.add_ratio("ratio_relay_vs_loop", turns["outbox"].rows_per_second, turns["loop"].rows_per_second)
    findings.add(**{f"rows_per_second_{name}": turn.rows_per_second for name, turn in turns.items()})
    findings.add(**{f"cpu_us_per_row_{name}": turn.cpu for name, turn in turns.items()})
    findings.add(**{f"core_used_{name}": turn.busy for name, turn in turns.items()})


@click.command()
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True, help="Turns of each contestant.")
@click.option("--rows", type=click.IntRange(1_000), default=50_000, show_default=True, help="Rows in each turn.")
@click.option("--quick", is_flag=True, help="Two short rounds: to see that it works, not for figures.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object last.")
def main(rounds: int, rows: int, quick: bool, as_json: bool) -> None:
    """
    Measure how many rows per second one relay process on one core sends to Kafka.

    Starts PostgreSQL, Redis and Kafka of its own and stops them. PostgreSQL and Kafka share another core. Beside it, on
    the same rows, runs the usual loop: select and lock, produce, flush, delete.

    \b
    Examples:
      python -m benchmarks.relay
      python -m benchmarks.relay --quick --json
    """
    if quick:
        rounds, rows = 2, 10_000
    show(measure(rounds, rows), WORDS, as_json=as_json)


if __name__ == "__main__":
    main()
