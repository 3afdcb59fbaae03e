"""
The loads that policies are compared on, in two sets.

`design` is what a policy may be shaped on. `evaluation` is for the figures: it was written down before any policy ran
on it, is run only to report, and is never changed for a result. The sets share kinds of load and nothing else: other
site, other rates, other times, other seeds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from random import Random
from typing import Literal

from benchmarks.autoscaling import shapes
from benchmarks.autoscaling.load import Epoch, Load
from benchmarks.autoscaling.plant import Consumers, Site

SetName = Literal["design", "evaluation"]

FOREIGN = Consumers("foreign", eager=True, commit=5, busy=False)
"""Somebody's consumers: eager rebalances and a commit every five seconds, as by default; sticky, as all are here."""

WORKER = Consumers("worker", eager=False, commit=1, busy=True)
"""The bridge's worker: cooperative, commits several times a second, and says how busy it is."""

KINDS = (FOREIGN, WORKER)

DRAWS = 2
"""How often chance is asked: for noise, walks, partitions' shares and pods, each time anew."""


@dataclass(frozen=True, slots=True)
class Trace:
    """One load and the circumstances that it is about."""

    name: str
    shape: Callable[[Random], shapes.Shape]
    seed: int
    why: str
    noise: float = 0.08
    """Standard deviation of each second's records, as a share of them."""
    weights: Callable[[int, Random], tuple[float, ...]] | None = None
    """Makes the partitions' shares; None: not quite even."""
    shifts: tuple[int, ...] = ()
    """Seconds at which the partitions' shares are drawn anew."""
    outages: tuple[tuple[int, int], ...] = ()
    """(from, to): seconds in which Kafka tells nobody about offsets, while consumers work on."""
    start: float | None = None
    """Seconds from asking for a pod to its joining; None: the site's."""


@dataclass(frozen=True, slots=True)
class TraceSet:
    """Traces with the site that they are worked off at."""

    name: SetName
    site: Site
    seconds: int
    traces: tuple[Trace, ...]

    def site_of(self, trace: Trace) -> Site:
        """Return the site as the trace has it."""
        return self.site if trace.start is None else replace(self.site, start=trace.start)

    @cache  # noqa: B019 - the sets are two constants
    def load_of(self, trace: Trace, draw: int = 0) -> Load:
        """Return the trace's load; the same for all policies and consumers."""
        chance = Random(f"{self.name} {trace.name} {trace.seed} {draw}")
        rates = shapes.noisy(trace.shape(chance), self.seconds, trace.noise, chance)
        weights = trace.weights or (lambda partitions, chance: shapes.scattered(partitions, 0.8, 1.2, chance))
        epochs = [Epoch(start, weights(self.site.partitions, chance)) for start in (0, *trace.shifts)]
        return Load(rates, epochs)


DESIGN = TraceSet(
    "design",
    # A busy consumer of quick tasks: many partitions, a minute's patience.
    Site(partitions=24, capacity=100.0, latency=60.0, start=20.0, pause=8),
    7200,
    (
        Trace("step", lambda _: shapes.steps((0, 300), (1800, 1200), (5400, 300)), 11, "a campaign goes out"),
        Trace("spike", lambda _: shapes.steps((0, 150), (2400, 1500), (3000, 150)), 12, "ten times as much at once"),
        Trace("diurnal", lambda _: shapes.wave(800, 700, 7200), 13, "a day in two hours"),
        Trace("burst", lambda _: shapes.bursts(100, 900, every=300, length=60), 14, "bursts shorter than it pays for"),
        Trace("ramp", lambda _: shapes.ramps(100, 1500, 1800), 15, "grows steadily, ends at once"),
        Trace("walk", lambda chance: shapes.walk(7200, 500, 9, 50, 1600, chance), 16, "no pattern at all"),
        Trace("onoff", lambda _: shapes.bursts(150, 1300, every=1500, length=750), 17, "batches, a quarter of an hour"),
        Trace(
            "skew",
            lambda _: shapes.steps((0, 350), (2400, 700), (5200, 400)),
            18,
            "few keys have most records; what is hot changes",
            weights=lambda partitions, chance: shapes.uneven(partitions, 0.5, chance),
            shifts=(3900,),
        ),
        Trace(
            "flaky",
            lambda _: shapes.wave(700, 500, 2700, 0.25),
            19,
            "no offsets for two minutes, while the load moves",
            outages=tuple((at, at + 120) for at in range(540, 7200, 1200)),
        ),
        Trace(
            "slow-start",
            lambda _: shapes.line((0, 300), (1200, 300), (1800, 1100), (4200, 1100), (4500, 500), (6000, 900)),
            20,
            "pods take a minute and a half",
            start=90.0,
        ),
        Trace(
            "quiet-burst",
            lambda _: shapes.bursts(5, 600, every=1350, length=150, first=600),
            21,
            "hardly anything, then a batch",
        ),
    ),
)

EVALUATION = TraceSet(
    "evaluation",
    # Slower tasks on fewer partitions, pods that take longer, rebalances too, and more patience: what fits the design
    # set only because of its site should fail here.
    Site(partitions=16, capacity=40.0, latency=90.0, start=32.0, pause=11),
    7200,
    (
        Trace("step", lambda _: shapes.steps((0, 90), (1500, 380), (4200, 210)), 51, "up, and half of the way back"),
        Trace(
            "spike",
            lambda _: shapes.steps((0, 55), (1900, 420), (2140, 55), (5300, 350), (5660, 55)),
            52,
            "two spikes, so far apart that the first is forgotten",
            noise=0.1,
        ),
        Trace("diurnal", lambda _: shapes.wave(250, 205, 5400, 0.6), 53, "a day and a third, from the evening on"),
        Trace(
            "burst",
            lambda _: shapes.bursts(45, 390, every=420, length=50, first=200),
            54,
            "a burst every seven minutes: longer than the usual five minutes of quiet",
            noise=0.1,
        ),
        Trace("ramp", lambda _: shapes.ramps(25, 430, 2600), 55, "a slower growth"),
        Trace("walk", lambda chance: shapes.walk(7200, 160, 2.6, 5, 440, chance), 56, "no pattern at all", noise=0.12),
        Trace("onoff", lambda _: shapes.bursts(60, 375, every=1900, length=900, first=400), 57, "half on, half off"),
        Trace(
            "skew",
            lambda _: shapes.steps((0, 70), (1300, 190), (3300, 120), (5000, 180)),
            58,
            "the largest partition alone fills most of a pod",
            weights=lambda partitions, chance: shapes.uneven(partitions, 0.6, chance),
            shifts=(2500, 6000),
        ),
        Trace(
            "flaky",
            lambda _: shapes.steps((0, 150), (1000, 330), (2900, 120), (4700, 300)),
            59,
            "no offsets for up to four minutes, twice while the load jumps",
            outages=((400, 560), (900, 1140), (2800, 3000), (4650, 4830), (6100, 6340)),
        ),
        Trace(
            "slow-start",
            lambda _: shapes.line((0, 80), (900, 80), (2100, 400), (3600, 400), (3900, 100), (5400, 320), (7200, 320)),
            60,
            "pods take over a minute: images are pulled",
            start=75.0,
        ),
        Trace(
            "quiet-burst",
            lambda _: shapes.bursts(2, 330, every=1500, length=120, first=700),
            61,
            "hardly anything, then a batch",
            noise=0.1,
        ),
    ),
)

SETS: dict[SetName, TraceSet] = {"design": DESIGN, "evaluation": EVALUATION}
