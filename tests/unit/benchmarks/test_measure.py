"""The statistics of the benchmarks, and the shape of their JSON."""

from __future__ import annotations

import json

import pytest

from benchmarks.measure import BUSY, Findings, Machine, Spread, quantile


@pytest.mark.parametrize(
    ("values", "part", "expected"),
    [
        ([3.0], 0.99, 3.0),
        ([3.0, 1.0, 2.0], 0.5, 2.0),
        ([1.0, 2.0, 3.0, 4.0], 0.5, 2.5),
        ([1.0, 2.0], 0.25, 1.25),
        (list(map(float, range(101))), 0.99, 99.0),
        ([5.0, 1.0], 0.0, 1.0),
        ([5.0, 1.0], 1.0, 5.0),
    ],
)
def test_a_quantile_lies_between_its_neighbours(values: list[float], part: float, expected: float) -> None:
    assert quantile(values, part) == pytest.approx(expected)


@pytest.mark.parametrize(("values", "part"), [([], 0.5), ([1.0], 1.1), ([1.0], -0.1)])
def test_there_is_not_always_a_quantile(values: list[float], part: float) -> None:
    with pytest.raises(ValueError, match="quantile"):
        quantile(values, part)


def test_a_spread_is_over_rounds() -> None:
    assert Spread.of([2.0, 9.0, 1.0]) == Spread(min=1.0, median=2.0, max=9.0)
    with pytest.raises(ValueError, match="no rounds"):
        Spread.of([])


@pytest.fixture
def findings() -> Findings:
    found = Findings("some", ("ratio_of_two",), {"rounds": 3})
    for ours, theirs in ((10.0, 5.0), (9.0, 3.0), (4.0, 4.0)):
        found.add_ratio("ratio_of_two", ours, theirs)
        found.add(ours=ours, theirs=theirs)
    found.machine.finish()
    return found


def test_ratios_are_of_one_round_each(findings: Findings) -> None:
    assert findings.rounds["ratio_of_two"] == [2.0, 3.0, 1.0]
    assert findings.spreads()["ratio_of_two"] == Spread(1.0, 2.0, 3.0)


def test_the_document_has_the_headline_first_and_survives_json(findings: Findings) -> None:
    document = json.loads(json.dumps(findings.document()))
    assert list(document) == ["benchmark", "ratio_of_two", "spreads", "rounds", "parameters", "machine"]
    assert document["benchmark"] == "some"
    assert document["ratio_of_two"] == 2.0
    assert document["spreads"]["ours"] == {"min": 4.0, "median": 9.0, "max": 10.0}
    assert document["rounds"]["theirs"] == [5.0, 3.0, 4.0]
    assert len(document["machine"]["load_before"]) == len(document["machine"]["load_after"]) == 3
    assert {"python", "celery", "confluent-kafka"} <= set(document["machine"]["versions"])


def test_figures_are_rounded_to_four_digits() -> None:
    found = Findings("some", ("third",), {})
    found.add(third=1234.5678 / 3)
    assert found.document()["third"] == 411.5


def test_a_machine_is_busy_by_its_load_per_core() -> None:
    assert Machine(cores=2, load_before=[2 * BUSY + 0.01, 0.0, 0.0]).is_busy
    assert not Machine(cores=2, load_before=[2 * BUSY, 9.0, 9.0]).is_busy
