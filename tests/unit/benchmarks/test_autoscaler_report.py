"""Which setting of KEDA ours is held against, what the tables and the plot say of it, and a whole small run."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from xml.etree import ElementTree as ET

import pytest
from click.testing import CliRunner

from benchmarks import autoscaler
from benchmarks.autoscaling import tables
from benchmarks.autoscaling.plant import Score
from benchmarks.autoscaling.plot import draw
from benchmarks.autoscaling.report import Comparison, compare, fixed_by_place, front, pick, ratio
from benchmarks.autoscaling.run import OURS, Outcome, Run, Setting, cheapest_fixed, keda_settings, simulate, steps
from benchmarks.autoscaling.traces import SETS

CHEAP, DEAR, LATE = (Setting("keda", threshold) for threshold in (100, 10, 4000))


def outcome(trace: str, setting: Setting, score: Score, draw: int = 0) -> Outcome:
    return Outcome(Run("design", trace, "worker", setting, draw, seconds=100), score)


@pytest.fixture
def outcomes() -> list[Outcome]:
    return [
        outcome("step", OURS, Score(10, 500, 4)),
        outcome("step", CHEAP, Score(5, 1000, 10)),
        outcome("step", DEAR, Score(0, 2000, 2)),
        outcome("step", LATE, Score(90, 300, 2)),
        outcome("burst", OURS, Score(0, 700, 2)),
        outcome("burst", CHEAP, Score(0, 600, 5)),
        outcome("burst", DEAR, Score(0, 900, 1)),
        outcome("burst", LATE, Score(0, 400, 1)),
    ]


@pytest.fixture
def comparison(outcomes: list[Outcome]) -> Comparison:
    return compare("design", outcomes, {("step", "worker"): 800})


def test_the_peer_is_the_cheapest_that_is_as_good() -> None:
    scores = {CHEAP: Score(10, 500, 1), DEAR: Score(2, 900, 1), LATE: Score(11, 100, 1)}
    assert pick(scores, violated=10) == CHEAP
    assert pick(scores, violated=9) == DEAR
    assert pick(scores, violated=11) == LATE


def test_when_none_is_as_good_the_peer_is_the_best_of_them() -> None:
    assert pick({CHEAP: Score(10, 500, 1), DEAR: Score(2, 900, 1), LATE: Score(2, 800, 1)}, violated=1) == LATE


def test_totals_and_ratios(comparison: Comparison) -> None:
    assert comparison.ours == Score(10, 1200, 6)
    assert comparison.peer == CHEAP
    assert comparison.reached
    assert comparison.replica_ratio == pytest.approx(1200 / 1600)
    assert comparison.rebalance_ratio == pytest.approx(6 / 15)
    assert ratio(3, 0) is None


def test_a_trace_that_goes_against_us_is_named(comparison: Comparison) -> None:
    step, burst = comparison.rows
    assert (step.lost, step.lost_to_tuned) == (False, False)
    assert (burst.lost, burst.lost_to_tuned) == (True, True)
    assert burst.tuned == LATE
    assert [line[-1] for line in tables.rows(comparison)] == ["violates longer", "dearer, dearer than tuned"]
    assert "dearer than tuned" in tables.markdown(comparison)


def test_draws_of_a_trace_are_added(outcomes: list[Outcome]) -> None:
    more = [outcome(one.run.trace, one.run.setting, one.score, draw=1) for one in outcomes]
    assert compare("design", [*outcomes, *more], {}).ours == Score(20, 2400, 12)


def test_fixed_numbers_cost_all_of_the_time() -> None:
    ours = [outcome("step", OURS, Score(), draw) for draw in (0, 1)] + [outcome("burst", OURS, Score())]
    assert fixed_by_place(ours, [3, 4, None]) == {("step", "worker"): 700}


def test_the_front_has_no_setting_that_another_beats() -> None:
    scores = {CHEAP: Score(10, 500, 1), DEAR: Score(2, 900, 1), LATE: Score(11, 600, 1)}
    assert front(scores) == [DEAR, CHEAP]


def test_the_sentence_says_what_it_is_held_against(comparison: Comparison) -> None:
    assert tables.sentence(comparison) == (
        "0.75 of the replica-seconds and 0.40 of the rebalances of keda 100, the cheapest setting of KEDA with no "
        "more violated seconds"
    )
    beaten = compare("design", [outcome("step", OURS, Score()), outcome("step", LATE, Score(9, 9, 9))], {})
    assert "none has as few as ours" in tables.sentence(beaten)


def test_the_document(comparison: Comparison) -> None:
    document = json.loads(json.dumps(comparison.document()))
    assert document["ratio_replica_seconds"] == 0.75
    assert document["totals"]["keda 100"] == {"violated": 5, "replica_seconds": 1600, "rebalances": 15}
    assert [row["lost"] for row in document["traces"]] == [False, True]


def test_the_plot_shows_every_setting(comparison: Comparison) -> None:
    root = ET.fromstring(draw(comparison))  # noqa: S314 - our own
    names = [one.text for one in root.iter("{http://www.w3.org/2000/svg}title")]
    assert names.count("keda 100") == 2
    assert sum(one.get("r") == "6" for one in root.iter("{http://www.w3.org/2000/svg}circle")) == 2


def test_the_plot_says_which_thresholds_it_shows(comparison: Comparison) -> None:
    assert "from thresholds of 10 to 4000 records" in draw(comparison)
    fewer = {setting: score for setting, score in comparison.totals.items() if setting != LATE}
    assert "from thresholds of 10 to 100 records" in draw(replace(comparison, totals=fewer))


def test_every_variant_has_at_least_ten_thresholds() -> None:
    families: dict[str, set[int | None]] = {}
    for setting in keda_settings():
        families.setdefault(setting.family, set()).add(setting.threshold)
    assert set(families) == {"keda", "keda-lagging", "keda-even", "keda-60s", "keda-600s"}
    assert all(len(thresholds) >= 10 and {10, 4000} <= thresholds for thresholds in families.values())


@pytest.mark.parametrize("setting", [OURS, CHEAP], ids=lambda one: one.family)
@pytest.mark.parametrize("consumers", ["foreign", "worker"])
def test_a_run_comes_out_the_same_every_time(setting: Setting, consumers: str) -> None:
    run = Run("design", "step", consumers, setting, seconds=600)
    first = simulate(run).score
    assert first == simulate(run).score
    assert first.replica_seconds >= 600


def test_both_policies_find_a_group_that_is_too_small() -> None:
    for setting in (OURS, CHEAP):
        run = Run("design", "spike", "worker", setting, seconds=2700)
        most = max(plant.replicas for plant, _ in steps(run))
        assert most > 10


def test_in_an_outage_nothing_is_taken_away() -> None:
    outage = range(540, 660)
    seen = {plant.now: plant.replicas for plant, _ in steps(Run("design", "flaky", "worker", OURS, seconds=660))}
    during = [seen[second] for second in outage if second in seen]
    assert len(during) == len(outage)
    assert all(after >= before for before, after in pairwise(during))


def test_the_cheapest_fixed_number() -> None:
    run = Run("design", "step", "worker", OURS, seconds=300)
    number = cheapest_fixed(Outcome(run, Score(violated=0)))
    assert number is not None
    scores = [simulate(replace(run, setting=Setting("fixed", fixed=one))).score for one in (number - 1, number)]
    assert scores[0].violated > scores[1].violated == 0
    assert scores[1].replica_seconds == number * 300
    assert cheapest_fixed(Outcome(run, Score(violated=300))) == 1


def test_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setattr(autoscaler, "QUICK_SECONDS", 60)
    monkeypatch.setattr(autoscaler, "QUICK_THRESHOLDS", (100,))
    plot = tmp_path / "plot.svg"
    result = CliRunner().invoke(autoscaler.main, ["--quick", "--jobs", "1", "--json", "--plot", str(plot)])
    assert result.exit_code == 0, result.output
    document = json.loads(result.output.splitlines()[-1])
    assert len(document["traces"]) == 2 * len(SETS["design"].traces)
    assert document["totals"]["lagscaler"]["replica_seconds"] > 0
    assert plot.read_text().startswith("<svg")
