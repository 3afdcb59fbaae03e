"""What `delay()` costs its caller in every stage, beside plain Celery in the same process."""

from __future__ import annotations

import logging
import os
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import click
import django
import redis

from benchmarks.grounds import BenchmarkFailedError, Grounds, grounds
from benchmarks.measure import Findings, quantile
from benchmarks.view import progress, show

BLOCK = 500
"""
Calls of one contestant in a row.

They take longer than the bridge lets observations gather, so that whoever causes that work has it going on beside his
own calls. Were it somebody else's turn at every call, the others would pay for it as well, and look as dear.
"""

WARM_UP = 25
"""Calls before those: the first ones find the processor's caches full of another contestant's data."""

PACKAGE = "benchmarks.project.tasks"
STAGES = ("off", "mirror", "live")
CONTESTANTS = {"off": "off", "mirror": "mirror", "confirm": "live", "noise": "plain"}
"""What figures are called -> whose calls they are of; all are compared with another turn of `plain`."""

WORDS = {
    "ratio_noise_p50": "plain Celery / itself, p50",
    "ratio_noise_p99": "plain Celery / itself, p99",
    "ratio_off_p50": "off / plain Celery, p50",
    "ratio_off_p99": "off / plain Celery, p99",
    "ratio_mirror_p50": "mirror / plain Celery, p50",
    "ratio_mirror_p99": "mirror / plain Celery, p99",
    "ratio_mirror_blackhole_p50": "mirror, Kafka not answering / plain Celery, p50",
    "ratio_mirror_blackhole_p99": "mirror, Kafka not answering / plain Celery, p99",
    "ratio_confirm_p50": "live, confirmed / plain Celery, p50",
    "ratio_confirm_p99": "live, confirmed / plain Celery, p99",
}


@dataclass(slots=True)
class Timings:
    """One contestant's calls in one round: seconds of each, and processor seconds of the process meanwhile."""

    calls: list[float] = field(default_factory=list)
    cpu: float = 0.0

    def figures(self, name: str) -> dict[str, float]:
        """Return median, 99th percentile and CPU of a call in µs."""
        return {
            f"us_{name}_p50": quantile(self.calls, 0.5) * 1e6,
            f"us_{name}_p99": quantile(self.calls, 0.99) * 1e6,
            f"cpu_us_{name}": self.cpu / len(self.calls) * 1e6,
        }


class Contest:
    """The contestants, in this process; `tasks` holds what each of them dispatches."""

    def __init__(self, tasks: Mapping[str, Any], settle: Callable[[], None], empty: Callable[[], None]) -> None:
        """`settle` waits for the bridge's work in the background, which counts as CPU time; `empty` clears queues."""
        self._tasks = tasks
        self._settle = settle
        self._empty = empty

    def round(self, contestants: Mapping[str, str], blocks: int, order: random.Random) -> dict[str, Timings]:
        """Return the timings of `blocks` blocks for each name in `contestants`, in an order drawn anew each time."""
        timings = {name: Timings() for name in contestants}
        for _ in range(blocks):
            for name in order.sample(list(contestants), len(contestants)):
                self._block(self._tasks[contestants[name]].delay, timings[name])
        return timings

    def _block(self, delay: Callable[[], Any], timings: Timings) -> None:
        clock = time.perf_counter
        for _ in range(WARM_UP):
            delay()
        cpu = time.process_time()
        for _ in range(BLOCK):
            start = clock()
            delay()
            timings.calls.append(clock() - start)
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
    place.move("live", "mirror", "live --percent 100")
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
        yield Contest(tasks, settle, lambda: queues.delete("plain", "bridged"))
    finally:
        bridge.close()
    counts = bridge.dispatcher.counters.snapshot()
    if counts.get("off") or "kafka" in counts["mirror"] or "celery" in counts["live"]:
        raise BenchmarkFailedError(f"messages went another way than their stages say: {counts}")


def measure(rounds: int, blocks: int) -> Findings:
    """Start the servers, let the contestants take turns, and return what was found."""
    findings = Findings("dispatch", tuple(WORDS), {"rounds": rounds, "calls_per_round": blocks * BLOCK})
    # The order is the same in every run, so that runs can be compared.
    order = random.Random(1)
    with grounds() as place, contest(place) as one, progress() as bar:
        shown = bar.add_task("dispatching", total=2 * rounds + 1)
        one.round({"plain": "plain", **CONTESTANTS}, 1, order)
        bar.advance(shown)
        for _ in range(rounds):
            _note(findings, one.round({"plain": "plain", **CONTESTANTS}, blocks, order), list(CONTESTANTS))
            bar.advance(shown)
        with place.kafka_paused():
            for _ in range(rounds):
                timings = one.round({"plain_blackhole": "plain", "mirror_blackhole": "mirror"}, blocks, order)
                _note(findings, timings, ["mirror_blackhole"], beside="plain_blackhole")
                bar.advance(shown)
    findings.machine.finish()
    return findings


def _note(findings: Findings, timings: Mapping[str, Timings], names: Sequence[str], beside: str = "plain") -> None:
    for part in (0.5, 0.99):
        plain = quantile(timings[beside].calls, part)
        for name in names:
            findings.add_ratio(f"ratio_{name}_p{part * 100:.0f}", quantile(timings[name].calls, part), plain)
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
