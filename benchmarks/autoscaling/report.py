"""What the outcomes say: totals of each setting, the setting of KEDA that ours is held against, and each trace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.autoscaling.plant import Score
from benchmarks.autoscaling.run import OURS, Outcome, Setting

Where = tuple[str, str]
"""A trace, and the kind of consumers."""


def add(scores: Sequence[Score]) -> Score:
    """Return their sum."""
    return Score(
        sum(one.violated for one in scores),
        sum(one.replica_seconds for one in scores),
        sum(one.rebalances for one in scores),
    )


def pick(scores: Mapping[Setting, Score], violated: int) -> Setting:
    """
    Return the setting with the fewest replica-seconds among those that violate no longer than `violated` seconds.

    When all violate longer, the one that does so least is the fairest peer that there is. Raises ValueError for none.
    """
    as_good = {setting: score for setting, score in scores.items() if score.violated <= violated}
    if as_good:
        return min(as_good, key=lambda setting: as_good[setting].replica_seconds)
    return min(scores, key=lambda setting: (scores[setting].violated, scores[setting].replica_seconds))


def ratio(ours: float, theirs: float) -> float | None:
    """Return ours over theirs; None where they have none."""
    return ours / theirs if theirs else None


@dataclass(frozen=True, slots=True)
class Row:
    """One trace with one kind of consumers."""

    trace: str
    consumers: str
    ours: Score
    peer: Score
    """Of the setting that the totals have chosen."""
    tuned: Setting
    """Of all KEDA's settings the best for this very trace, as one knows afterwards."""
    tuned_score: Score
    fixed: int | None
    """
    Replica-seconds of the fewest replicas, the same all the time, that violate no longer than ours.

    One knows them afterwards. None where no number of replicas does.
    """

    @property
    def lost(self) -> bool:
        """Whether the peer keeps the objective as well, with fewer replica-seconds."""
        return self.peer.violated <= self.ours.violated and self.peer.replica_seconds < self.ours.replica_seconds

    @property
    def lost_to_tuned(self) -> bool:
        """The same of the setting that is best for this trace."""
        return (
            self.tuned_score.violated <= self.ours.violated
            and self.tuned_score.replica_seconds < self.ours.replica_seconds
        )


@dataclass(frozen=True, slots=True)
class Comparison:
    """Everything that was found on one set."""

    set_name: str
    totals: dict[Setting, Score]
    peer: Setting
    rows: tuple[Row, ...]

    @property
    def ours(self) -> Score:
        """The totals of the operator's policy."""
        return self.totals[OURS]

    @property
    def reached(self) -> bool:
        """Whether the peer violates the objective no longer than ours."""
        return self.totals[self.peer].violated <= self.ours.violated

    @property
    def replica_ratio(self) -> float | None:
        """Our replica-seconds over the peer's."""
        return ratio(self.ours.replica_seconds, self.totals[self.peer].replica_seconds)

    @property
    def rebalance_ratio(self) -> float | None:
        """Our rebalances over the peer's."""
        return ratio(self.ours.rebalances, self.totals[self.peer].rebalances)

    def document(self) -> dict[str, Any]:
        """Return it as a JSON object, the ratios first."""
        return {
            "benchmark": "autoscaler",
            "set": self.set_name,
            "ratio_replica_seconds": _rounded(self.replica_ratio),
            "ratio_rebalances": _rounded(self.rebalance_ratio),
            "keda": self.peer.name,
            "keda_reached": self.reached,
            "totals": {setting.name: asdict(score) for setting, score in self.totals.items()},
            "traces": [
                {
                    "trace": row.trace,
                    "consumers": row.consumers,
                    "lagscaler": asdict(row.ours),
                    "keda": asdict(row.peer),
                    "keda_tuned": {"setting": row.tuned.name, **asdict(row.tuned_score)},
                    "fixed": row.fixed,
                    "lost": row.lost,
                    "lost_to_tuned": row.lost_to_tuned,
                }
                for row in self.rows
            ],
        }


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.3g}")


def by_place(outcomes: Sequence[Outcome]) -> dict[Where, dict[Setting, Score]]:
    """Return the scores of each setting, for each trace and kind of consumers."""
    places: dict[Where, dict[Setting, Score]] = {}
    for one in outcomes:
        scores = places.setdefault((one.run.trace, one.run.consumers), {})
        scores[one.run.setting] = add([scores.get(one.run.setting, Score()), one.score])
    return places


def fixed_by_place(ours: Sequence[Outcome], numbers: Sequence[int | None]) -> dict[Where, int]:
    """Return the replica-seconds of fixed numbers of replicas, where there is one for each of our outcomes."""
    found: dict[Where, list[int | None]] = {}
    for one, number in zip(ours, numbers, strict=True):
        cost = None if number is None else number * one.run.length
        found.setdefault((one.run.trace, one.run.consumers), []).append(cost)
    return {place: sum(one for one in costs if one) for place, costs in found.items() if None not in costs}


def compare(set_name: str, outcomes: Sequence[Outcome], fixed: Mapping[Where, int]) -> Comparison:
    """Hold ours against KEDA's settings; `fixed` are the replica-seconds of fixed numbers of replicas."""
    places = by_place(outcomes)
    settings = list(dict.fromkeys(one.run.setting for one in outcomes))
    totals = {setting: add([scores[setting] for scores in places.values()]) for setting in settings}
    keda = [setting for setting in settings if setting != OURS]
    peer = pick({setting: totals[setting] for setting in keda}, totals[OURS].violated)
    rows = []
    for (trace, consumers), scores in places.items():
        tuned = pick({setting: scores[setting] for setting in keda}, scores[OURS].violated)
        rows.append(
            Row(trace, consumers, scores[OURS], scores[peer], tuned, scores[tuned], fixed.get((trace, consumers)))
        )
    return Comparison(set_name, totals, peer, tuple(rows))


def front(totals: Mapping[Setting, Score]) -> list[Setting]:
    """Return the settings that no other beats in violated seconds and replica-seconds at once, best objective first."""
    chosen: list[Setting] = []
    for setting in sorted(totals, key=lambda one: (totals[one].violated, totals[one].replica_seconds)):
        if not chosen or totals[setting].replica_seconds < totals[chosen[-1]].replica_seconds:
            chosen.append(setting)
    return chosen
