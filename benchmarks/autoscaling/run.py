"""One policy on one trace, and all of them on all."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from typing import TypeVar

from benchmarks.autoscaling.keda import KafkaScaler
from benchmarks.autoscaling.load import Load
from benchmarks.autoscaling.plant import Plant, Score
from benchmarks.autoscaling.policies import Fixed, Keda, Lagscaler, Policy
from benchmarks.autoscaling.traces import KINDS, SETS, SetName, Trace, TraceSet
from lagscaler.policy.model import Spec

T = TypeVar("T")

THRESHOLDS = (10, 20, 50, 100, 200, 350, 500, 750, 1000, 1500, 2000, 3000, 4000)
"""KEDA's `lagThreshold`, from its default to more than a group can do within any objective here."""

FULL = 0.8
"""Share of the pods' capacity that the load takes when a run begins."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One policy with one choice of its parameters; the same for all traces."""

    family: str
    """What is drawn as one line: all thresholds of one variant."""
    threshold: int | None = None
    lagging_only: bool = False
    even: bool = False
    stabilization: int = 300
    fixed: int | None = None

    @property
    def name(self) -> str:
        """The family, with the threshold where there is one."""
        return self.family if self.threshold is None else f"{self.family} {self.threshold}"

    def policy(self, latency: float, replicas: int) -> Policy:
        """Return a new policy for a group with that objective and so many replicas at first."""
        if self.fixed is not None:
            return Fixed(self.fixed)
        if self.threshold is None:
            return Lagscaler(Spec(latency=latency))
        scaler = KafkaScaler(self.threshold, self.lagging_only, self.even)
        return Keda(scaler, replicas, stabilization=self.stabilization)


OURS = Setting("lagscaler")

FAMILIES: dict[str, Callable[[int], Setting]] = {
    "keda": lambda threshold: Setting("keda", threshold),
    "keda-lagging": lambda threshold: Setting("keda-lagging", threshold, lagging_only=True),
    "keda-even": lambda threshold: Setting("keda-even", threshold, even=True),
    "keda-60s": lambda threshold: Setting("keda-60s", threshold, stabilization=60),
    "keda-600s": lambda threshold: Setting("keda-600s", threshold, stabilization=600),
}
"""As KEDA comes, and with the options that people turn to: the last two have other stabilization windows."""


def keda_settings(thresholds: Sequence[int] = THRESHOLDS) -> list[Setting]:
    """Return all of KEDA's settings that are tried."""
    return [make(threshold) for make in FAMILIES.values() for threshold in thresholds]


@dataclass(frozen=True, slots=True)
class Run:
    """What is to be simulated: plain words, so that it can be sent to another process."""

    set_name: SetName
    trace: str
    consumers: str
    setting: Setting
    draw: int = 0
    pause: int | None = None
    """Seconds that a rebalance takes; None: what the site says."""
    seconds: int | None = None
    """How many of the trace's seconds; None: all."""

    @property
    def length(self) -> int:
        """Seconds that it takes."""
        return self.seconds or SETS[self.set_name].seconds


@dataclass(frozen=True, slots=True)
class Outcome:
    """A run, and what came of it."""

    run: Run
    score: Score


@cache
def _found(set_name: SetName, trace: str) -> tuple[TraceSet, Trace]:
    chosen = SETS[set_name]
    return chosen, next(one for one in chosen.traces if one.name == trace)


def at_first(chosen: TraceSet, load: Load) -> int:
    """Return the replicas of a group that has been in service: enough for the first minute's load."""
    rates = load.rates[:60]
    return max(1, math.ceil(sum(rates) / len(rates) / (FULL * chosen.site.capacity)))


def plant_of(run: Run, looks: int) -> Plant:
    """Return the plant of a run at its second 0."""
    chosen, trace = _found(run.set_name, run.trace)
    consumers = next(one for one in KINDS if one.name == run.consumers)
    load = chosen.load_of(trace, run.draw)
    seed = f"{run.set_name} {run.trace} {trace.seed} {run.draw} {run.consumers}"
    replicas = at_first(chosen, load) if run.setting.fixed is None else run.setting.fixed
    site = chosen.site_of(trace)
    if run.pause is not None:
        site = replace(site, pause=run.pause)
    return Plant(site, consumers, load, seed, replicas, looks)


def steps(run: Run) -> Iterator[tuple[Plant, Policy]]:
    """Simulate a run, and give the plant and its policy after each second."""
    chosen, trace = _found(run.set_name, run.trace)
    policy = run.setting.policy(chosen.site.latency, at_first(chosen, chosen.load_of(trace, run.draw)))
    plant = plant_of(run, policy.looks)
    for _ in range(run.length):
        plant.tick()
        if plant.now % policy.looks == 0:
            reachable = not any(start <= plant.now < end for start, end in trace.outages)
            wanted = policy.replicas(plant, reachable=reachable)
            if wanted != plant.replicas:
                plant.scale(wanted)
        yield plant, policy


def simulate(run: Run) -> Outcome:
    """Return what comes of a run."""
    plant, _ = deque(steps(run), 1)[0]
    return Outcome(run, plant.score)


def cheapest_fixed(outcome: Outcome) -> int | None:
    """Return the fewest replicas, the same all the time, that violate the objective no longer; None: no number does."""
    run = outcome.run
    for replicas in range(1, SETS[run.set_name].site.partitions + 1):
        fixed = simulate(replace(run, setting=Setting("fixed", fixed=replicas)))
        if fixed.score.violated <= outcome.score.violated:
            return replicas
    return None


def simulate_all(runs: Sequence[Run], jobs: int, done: Callable[[], None]) -> list[Outcome]:
    """Return the outcomes of all runs, in their order; `done` is called for each."""
    with ProcessPoolExecutor(jobs) as pool:
        return list(_counted(pool.map(simulate, runs, chunksize=4), done))


def fixed_all(outcomes: Sequence[Outcome], jobs: int, done: Callable[[], None]) -> list[int | None]:
    """Return for each of our outcomes the cheapest fixed number of replicas."""
    with ProcessPoolExecutor(jobs) as pool:
        return list(_counted(pool.map(cheapest_fixed, outcomes), done))


def _counted(results: Iterable[T], done: Callable[[], None]) -> Iterator[T]:
    for result in results:
        yield result
        done()
