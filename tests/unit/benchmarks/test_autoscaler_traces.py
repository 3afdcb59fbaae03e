"""The two sets of loads: apart from each other, and possible to work off."""

from __future__ import annotations

import pytest

from benchmarks.autoscaling.traces import DESIGN, EVALUATION, SETS, TraceSet

LOADS = [(chosen, trace.name) for chosen in SETS.values() for trace in chosen.traces]


def test_the_sets_share_neither_seeds_nor_sites() -> None:
    seeds = [trace.seed for chosen in SETS.values() for trace in chosen.traces]
    assert len(set(seeds)) == len(seeds)
    for name in ("partitions", "capacity", "latency", "start", "pause"):
        assert getattr(DESIGN.site, name) != getattr(EVALUATION.site, name)


def test_the_sets_have_the_same_kinds_of_load() -> None:
    assert [trace.name for trace in DESIGN.traces] == [trace.name for trace in EVALUATION.traces]
    assert len({trace.name for trace in DESIGN.traces}) == len(DESIGN.traces)


@pytest.mark.parametrize("name", [trace.name for trace in DESIGN.traces])
def test_no_load_is_the_others_in_other_units(name: str) -> None:
    shapes = []
    for chosen in SETS.values():
        load = chosen.load_of(next(trace for trace in chosen.traces if trace.name == name))
        minutes = [load.total[end] - load.total[end - 60] for end in range(60, load.seconds, 60)]
        mean = sum(minutes) / len(minutes)
        shapes.append([minute / mean for minute in minutes])
    apart = sum(abs(one - other) for one, other in zip(*shapes, strict=True)) / len(shapes[0])
    assert apart > 0.15


@pytest.mark.parametrize(("chosen", "name"), LOADS, ids=lambda one: getattr(one, "name", one))
def test_a_load_can_be_worked_off(chosen: TraceSet, name: str) -> None:
    load = chosen.load_of(next(trace for trace in chosen.traces if trace.name == name))
    assert load.seconds == chosen.seconds
    assert load.partitions == chosen.site.partitions
    for second in range(60, load.seconds, 60):
        bases, weights, _ = load.line(second)
        assert sum(bases) + sum(weights) > 0
        rate = (load.total[second] - load.total[second - 60]) / 60
        assert rate * max(weights) < 0.9 * chosen.site.capacity
        assert rate < 0.75 * chosen.site.capacity * chosen.site.partitions


def test_a_load_is_the_same_every_time() -> None:
    trace = DESIGN.traces[0]
    again = TraceSet(DESIGN.name, DESIGN.site, DESIGN.seconds, DESIGN.traces)
    assert again.load_of(trace).rates == DESIGN.load_of(trace).rates
