"""What becomes of the backlog until replicas that are asked for now could help."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lagscaler.policy import demand
from lagscaler.policy.assignment import Groups, predictor
from lagscaler.policy.changes import start_delay
from lagscaler.policy.model import Spec, State
from lagscaler.policy.picture import Picture
from lagscaler.policy.rates import ago, arrived

STRETCH = 60.0
"""Seconds of one stretch, of three that growth is measured by."""
HORIZON = 120.0
"""Seconds after replicas can help for which they should do when the load grows as it has."""
HEADROOM = 0.8
"""Share of its capacity that a replica should be used at after an addition, so that the next one is far."""
CATCH_UP = 1.0
"""Objectives within which the backlog should be worked off."""
LATE = 0.8
"""Share of the objective that the oldest record's age may reach; the rest is for what no forecast tells."""
PAUSE = 8.0
"""Seconds for which a rebalance is taken to stop consumption."""
PAUSE_MOST = 0.15
"""Share of the objective that this may be, at most."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """With the replicas that are there or starting."""

    wait: float
    """Seconds that the worst replica will need for its backlog when new replicas could help."""
    late: float
    """How old the oldest record that replicas can help will be by then, or that wait where it is longer."""
    over: bool
    """Whether that is too long, or some record will be too old by then."""
    urgent: bool
    """Whether replicas that are asked for at the next poll would come too late for the objective."""
    needed: int
    """Replicas that do what arrives and work off what will be waiting; those that are there unless it is over."""
    predict: Callable[[int], Sequence[Groups]]


def look_ahead(picture: Picture, capacity: float, spec: Spec, state: State) -> Forecast:
    """Return the forecast; the picture has partitions."""
    keys, rates = picture.keys, picture.rates
    predict = predictor(picture.groups, keys)
    replicas = min(max(1, picture.now.replicas), len(keys))
    coming = predict(replicas)[0]
    delay = start_delay(state)
    rest = 0.0
    if replicas > len(picture.groups):
        rest = min(delay, max(spec.poll, (state.asked_at or 0.0) + delay - picture.now.at))
    backlog = demand.after(picture.helped, rates, picture.groups, capacity, rest)
    backlog = demand.after(backlog, rates, coming, capacity, delay - rest)
    ages = _aged(picture.ages, rates, picture.groups, capacity, rest)
    ages = _aged(ages, rates, coming, capacity, delay - rest)
    oldest = max(ages)
    later = max(_aged(ages, rates, coming, capacity, spec.poll))
    stop = pause(spec)
    wait = demand.longest_wait(backlog, coming, capacity)
    over = wait > spec.slack * spec.latency or oldest + stop > LATE * spec.latency
    needed = picture.now.replicas
    if over:
        growth = trend(picture, delay + HORIZON)
        required = [
            max(rate * growth / HEADROOM, rate + (records + rate * stop) / (CATCH_UP * spec.latency))
            for rate, records in zip(rates, backlog, strict=True)
        ]
        needed = demand.sufficient(required, capacity, predict, picture.hot())
    return Forecast(wait, max(wait, oldest), over, later + stop > spec.latency, needed, predict)


def pause(spec: Spec) -> float:
    """Return how long a rebalance is taken to stop consumption, never so long that a short objective is hopeless."""
    return min(PAUSE, PAUSE_MOST * spec.latency)


def _aged(
    ages: Sequence[float], rates: Sequence[float], groups: Groups, capacity: float, seconds: float
) -> list[float]:
    """Return how old the oldest record of each partition will be: its replica falls behind, or catches up."""
    result = [0.0] * len(ages)
    for group in groups:
        rate = sum(rates[index] for index in group)
        change = seconds * (1 - capacity / rate) if rate > 0 else -seconds * capacity
        for index in group:
            if ages[index] > 0 or change > 0:
                result[index] = max(0.0, ages[index] + change)
    return result


def trend(picture: Picture, seconds: float) -> float:
    """
    Return the factor by which what arrives will have grown in so many seconds, from 1 to 2.

    Growth counts as far as it was seen twice, so a step is none.
    """
    marks = [ago(picture.samples, STRETCH * count) for count in range(4)]
    spans = [new.at - old.at for new, old in itertools.pairwise(marks)]
    if min(spans) < STRETCH / 2:
        return 1.0
    third, second, first = (sum(arrived(new, old, picture.keys)) for new, old in itertools.pairwise(marks))
    slope = min((third - second) / spans[0], (second - first) / spans[1])
    if slope <= 0 or third <= 0:
        return 1.0
    return min(2.0, 1 + slope * seconds / third)
