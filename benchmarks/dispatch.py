"""What `delay()` costs its caller in every stage, beside plain Celery in the same process."""

from __future__ import annotations

import logging
import os
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click
import django
import redis

from benchmarks.grounds import BenchmarkFailedError, Grounds, grounds
from benchmarks.measure import Findings, quantile
from benchmarks.view import progress, show
from taskbridge import barrier
from taskbridge.record import Record

if TYPE_CHECKING:
    from taskbridge.contrib.django.wiring import Bridge

BLOCK = 500
"""
Calls of one contestant in a row.

They take longer than the bridge lets observations gather, so that whoever causes that work has it going on beside his
own calls. Were it somebody else's turn at every call, the others would pay for it as well, and look as dear.
"""

WARM_UP = 25
"""Calls before those: the first ones find the processor's caches full of another contestant's data."""

KAFKA_WARM_UP = 24
"""
Blocks before all others, for Kafka.

A broker that has just started interprets its code and compiles it beside that: a single acknowledged record takes it
twice as long as after some ten thousand.
"""

PACKAGE = "benchmarks.project.tasks"
STAGES = ("off", "mirror", "live", "barrier")
CONTESTANTS = {"off": "off", "mirror": "mirror", "confirm": "live", "barrier": "barrier", "noise": "plain"}
"""What figures are called -> whose calls they are of; all are compared with another turn of `plain`."""

IN_A_BARRIER = 100
"""Calls between the two ends of a barrier."""

FILLING = 20_000
"""Copies of which not all fit into the buffer, whose size the settings say."""

FLAGS = 10_000
"""Rows in each of the tables of flags, for the part with many of them."""

WORDS = {
    "ratio_noise_p50": "plain Celery / itself, p50",
    "ratio_noise_p99": "plain Celery / itself, p99",
    "ratio_off_p50": "off / plain Celery, p50",
    "ratio_off_p99": "off / plain Celery, p99",
    "ratio_mirror_p50": "mirror / plain Celery, p50",
    "ratio_mirror_p99": "mirror / plain Celery, p99",
    "ratio_mirror_blackhole_p50": "mirror, Kafka not answering / plain Celery, p50",
    "ratio_mirror_blackhole_p99": "mirror, Kafka not answering / plain Celery, p99",
    "ratio_mirror_flags_p50": "mirror, 20,000 flags / plain Celery, p50",
    "ratio_mirror_flags_p99": "mirror, 20,000 flags / plain Celery, p99",
    "ratio_barrier_p50": "live, barrier and its end / plain Celery, p50",
    "ratio_barrier_p99": "live, barrier and its end / plain Celery, p99",
    "ratio_barrier_call_p50": "live, call within a barrier / plain Celery, p50",
    "ratio_barrier_call_p99": "live, call within a barrier / plain Celery, p99",
    "ratio_confirm_p50": "live, confirmed / plain Celery, p50",
    "ratio_confirm_p99": "live, confirmed / plain Celery, p99",
}


@dataclass(slots=True)
class Timings:
    """
    One contestant's calls in one round: seconds of each, and processor seconds of the process meanwhile.

    `whole` are means of IN_A_BARRIER calls in a row, with the end of the barrier if they are in one.
    """

    calls: list[float] = field(default_factory=list)
    cpu: float = 0.0
    whole: list[float] = field(default_factory=list)

    def figures(self, name: str) -> dict[str, float]:
        """Return median, 99th percentile and CPU of a call in µs."""
        return {
            f"us_{name}_p50": quantile(self.calls, 0.5) * 1e6,
            f"us_{name}_p99": quantile(self.calls, 0.99) * 1e6,
            f"cpu_us_{name}": self.cpu / len(self.calls) * 1e6,
        }


class Contest:
    """The contestants, in this process; `tasks` holds what each of them dispatches."""

    def __init__(
        self, tasks: Mapping[str, Any], settle: Callable[[], None], empty: Callable[[], None], bridge: Bridge
    ) -> None:
        """`settle` waits for the bridge's work in the background, which counts as CPU time; `empty` clears queues."""
        self.bridge = bridge
        self._tasks = tasks
        self._settle = settle
        self._empty = empty

    def round(self, contestants: Mapping[str, str], blocks: int, order: random.Random) -> dict[str, Timings]:
        """Return the timings of `blocks` blocks for each name in `contestants`, in an order drawn anew each time."""
        timings = {name: Timings() for name in contestants}
        for _ in range(blocks):
            for name in order.sample(list(contestants), len(contestants)):
                self._block(contestants[name], timings[name])
        return timings

    def _block(self, name: str, timings: Timings) -> None:
        delay, clock = self._tasks[name].delay, time.perf_counter
        for _ in range(WARM_UP):
            delay()
        cpu = time.process_time()
        for _ in range(BLOCK // IN_A_BARRIER):
            began = clock()
            with barrier() if name == "barrier" else nullcontext():
                for _ in range(IN_A_BARRIER):
                    start = clock()
                    delay()
                    timings.calls.append(clock() - start)
            timings.whole.append((clock() - began) / IN_A_BARRIER)
        self._settle()
        timings.cpu += time.process_time() - cpu
        self._empty()


@contextmanager
def contest(place: Grounds) -> Iterator[Contest]:
    """
    Yield the contest, each service in the stage of its name.

    Two applications are made in this process, whose environment becomes that of `place`. Raises BenchmarkFailedError
    when a message went another way than its stage says.
    """
    place.move("mirror", "mirror")
    for service in ("live", "barrier"):
        place.move(service, "mirror", "live --percent 100")
    os.environ.update(place.environment)
    django.setup()
    from benchmarks.project.bridged import app as bridged
    from benchmarks.project.plain import app as plain
    from taskbridge.contrib.django.wiring import bridge_of

    # Where Kafka is stopped on purpose, nobody needs to be warned of it.
    logging.getLogger("taskbridge").setLevel(logging.ERROR)
    for app in (plain, bridged):
        app.loader.import_default_modules()
    bridge = bridge_of(bridged)
    tasks = {"plain": plain.tasks[f"{PACKAGE}.plain"]}
    tasks |= {name: bridged.tasks[f"{PACKAGE}.{name}"] for name in STAGES}
    queues = redis.Redis.from_url(place.environment["REDIS_URL"])

    def settle() -> None:
        bridge.observer.flush()
        if not place.is_kafka_paused:
            bridge.best_effort.flush(10.0)

    try:
        yield Contest(tasks, settle, lambda: queues.delete("plain", "bridged"), bridge)
    finally:
        bridge.close()
    counts = bridge.dispatcher.counters.snapshot()
    to_kafka = [service for service in ("live", "barrier") if "celery" in counts[service]]
    if counts.get("off") or "kafka" in counts["mirror"] or to_kafka:
        raise BenchmarkFailedError(f"messages went another way than their stages say: {counts}")


def fill_copies(bridge: Bridge) -> None:
    """Offer copies until one is not taken; raise BenchmarkFailedError when all are."""
    topic, record = bridge.settings.shadow_topic("mirror"), Record(b"filling", b"{}")
    if all(bridge.best_effort.offer(topic, record) for _ in range(FILLING)):
        raise BenchmarkFailedError(f"{FILLING:,} copies fit into the buffer")


def add_flags(count: int) -> None:
    """Add flags of as many services and of as many tasks of the service `mirror`, none of which is dispatched."""
    from django.db import connection

    tables = {
        "service": "('other-' || number, 'live', 10000, 1, {0} + number, now(), false)",
        "task": "('mirror', 'other.' || number, 'live', 10000, 1, {0} + {1} + number, now(), false, false)",
    }
    columns = "stage, basis_points, epoch, version, changed_at, hold"
    with connection.cursor() as cursor:
        for table, row in tables.items():
            names = f"service, {columns}" if table == "service" else f"service, task, {columns}, cleared"
            values = row.format(1_000_000, count)
            cursor.execute(
                f"INSERT INTO taskbridge_{table}_flag ({names})"  # noqa: S608
                f" SELECT {values[1:-1]} FROM generate_series(1, %s) AS number",
                (count,),
            )


def measure(rounds: int, blocks: int) -> Findings:
    """Start the servers, let the contestants take turns, and return what was found."""
    findings = Findings("dispatch", tuple(WORDS), {"rounds": rounds, "calls_per_round": blocks * BLOCK})
    # The order is the same in every run, so that runs can be compared.
    order = random.Random(1)
    with grounds() as place, contest(place) as one, progress() as bar:
        shown = bar.add_task("dispatching", total=3 * rounds + 1)
        one.round({"live": "live", "mirror": "mirror"}, KAFKA_WARM_UP, order)
        one.round({"plain": "plain", **CONTESTANTS}, 1, order)
        bar.advance(shown)
        for _ in range(rounds):
            _note(findings, one.round({"plain": "plain", **CONTESTANTS}, blocks, order), list(CONTESTANTS))
            bar.advance(shown)
        add_flags(FLAGS)
        # Everybody has read the flags when these calls are over.
        one.round({"mirror_flags": "mirror"}, 2, order)
        for _ in range(rounds):
            timings = one.round({"plain_flags": "plain", "mirror_flags": "mirror"}, blocks, order)
            _note(findings, timings, ["mirror_flags"], beside="plain_flags")
            bar.advance(shown)
        counters = one.bridge.dispatcher.counters
        with place.kafka_paused():
            for _ in range(rounds):
                fill_copies(one.bridge)
                before = counters.get("mirror", "copy_lost")
                timings = one.round({"plain_blackhole": "plain", "mirror_blackhole": "mirror"}, blocks, order)
                if counters.get("mirror", "copy_lost") == before:
                    raise BenchmarkFailedError(
                        "the buffer for copies was not full, so Kafka's absence was not measured"
                    )
                _note(findings, timings, ["mirror_blackhole"], beside="plain_blackhole")
                bar.advance(shown)
    findings.machine.finish()
    return findings


def _note(findings: Findings, timings: Mapping[str, Timings], names: Sequence[str], beside: str = "plain") -> None:
    for part in (0.5, 0.99):
        plain = quantile(timings[beside].calls, part)
        for name in names:
            ours = timings[name]
            percentile = f"p{part * 100:.0f}"
            if name == "barrier":
                findings.add_ratio(f"ratio_{name}_call_{percentile}", quantile(ours.calls, part), plain)
                whole = quantile(timings[beside].whole, part)
                findings.add_ratio(f"ratio_{name}_{percentile}", quantile(ours.whole, part), whole)
            else:
                findings.add_ratio(f"ratio_{name}_{percentile}", quantile(ours.calls, part), plain)
    for name, timing in timings.items():
        findings.add(**timing.figures(name))


@click.command()
@click.option(
    "--rounds", type=click.IntRange(1), default=8, show_default=True, help="Rounds, each with its own ratios."
)
@click.option(
    "--tasks", type=click.IntRange(BLOCK), default=2_000, show_default=True, help="Calls per round and contestant."
)
@click.option("--quick", is_flag=True, help="Two short rounds: to see that it works, not for figures.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object last.")
def main(rounds: int, tasks: int, quick: bool, as_json: bool) -> None:
    """
    Measure how long `delay()` takes in every stage.

    Starts PostgreSQL, Redis and Kafka of its own and stops them. Plain Celery and the stages take turns in one process,
    a block of calls each; for the last part Kafka is stopped where it stands, connections open.

    \b
    Examples:
      python -m benchmarks.dispatch
      python -m benchmarks.dispatch --quick --json
    """
    if quick:
        rounds, tasks = 2, BLOCK
    show(measure(rounds, tasks // BLOCK), WORDS, as_json=as_json)


if __name__ == "__main__":
    main()
