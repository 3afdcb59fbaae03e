"""The report as one JSON document, from which the terminal and every other form is made."""

from __future__ import annotations

import json
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from heapq import nsmallest
from typing import Any

from taskbridge.comparison import classes
from taskbridge.comparison.classes import Class, Judgement, executions, is_mirrored, judge, judge_undispatched
from taskbridge.comparison.durations import PRECISION, quantiles
from taskbridge.comparison.fold import Fold
from taskbridge.comparison.trace import Trace
from taskbridge.comparison.verdict import EXIT_CODES, Counts, Verdict, advice, decide, sentence, worst
from taskbridge.cutover import Flag
from taskbridge.record import Identity

SCHEMA = "taskbridge.report/1"

SIDES = ("celery", "kafka")


@dataclass(frozen=True, slots=True)
class Question:
    """What the report was asked; times are seconds since the epoch."""

    until: float
    """When the end of the log was looked up: what is younger than the horizon then is not judged."""
    since: float | None = None
    horizon: float = 30.0
    """Seconds after which what was not seen is missing."""
    task: str | None = None
    """Pattern that tasks had to match."""
    limit: int = 20
    """Findings listed per service."""
    malformed: int = 0
    """Records of the log that could not be read."""


def build(folds: Sequence[Fold], question: Question, flags: Mapping[str, Flag]) -> dict[str, Any]:
    """
    Return the report's document.

    The same observations, question and flags give the same document, in whatever order they were read. `flags` may
    lack a service: then the stage is taken from the last dispatch that was observed.
    """
    services = [
        _Service(fold, question).document(flags.get(fold.service))
        for fold in sorted(folds, key=lambda fold: fold.service)
    ]
    verdict = worst([Verdict(service["verdict"]) for service in services])
    return {
        "schema": SCHEMA,
        "verdict": verdict.value,
        "exit_code": EXIT_CODES[verdict],
        "invalid": verdict is Verdict.INVALID,
        "since": question.since,
        "until": question.until,
        "horizon": question.horizon,
        "task": question.task,
        "malformed_records": question.malformed,
        "services": services,
    }


def to_json(document: Mapping[str, Any]) -> str:
    """Return the document as one line of JSON, equal for equal documents."""
    return json.dumps(document, sort_keys=True, allow_nan=False, separators=(",", ":"))


class _Service:
    """Goes over the traces of one service once, and counts."""

    def __init__(self, fold: Fold, question: Question) -> None:
        self._fold = fold
        self._question = question
        self._mirrored = dict.fromkeys(classes.MIRRORED, 0)
        self._executed = dict.fromkeys(classes.EXECUTED, 0)
        self._reasons: Counter[str] = Counter()
        self._discarded = 0
        self._traffic: Counter[tuple[str, int, str]] = Counter()
        self._fallbacks: Counter[str] = Counter()
        self._ambiguous = 0
        self._control = {"ran_once": 0, "ran_more_than_once": 0, "not_seen": 0}
        self._arguments_compared = 0
        self._undispatched = {"identities": 0, "with_runs": 0, "with_copies": 0, "duplicates": 0}
        self._outcomes: dict[str, dict[str, Counter[str]]] = {}
        self._execution: dict[tuple[str, str], array[float]] = {}
        self._wait: dict[tuple[str, str], array[float]] = {}
        self._findings: list[tuple[bool, str, float, Identity, Judgement]] = []
        for identity, trace in fold.traces.items():
            self._count_runs(trace)
            if trace.sendings:
                self._count_dispatch(identity, trace)
            else:
                self._count_undispatched(identity, trace)

    def document(self, flag: Flag | None) -> dict[str, Any]:
        fold = self._fold
        counts = self._counts()
        verdict = decide(counts)
        stage, basis_points, epoch = self._stage(flag)
        following, rollback = advice(fold.service, verdict, stage, basis_points)
        return {
            "service": fold.service,
            "verdict": verdict.value,
            "sentence": sentence(fold.service, verdict, counts),
            "invalid": verdict is Verdict.INVALID,
            "stage": stage,
            "percent": None if basis_points is None else basis_points / 100,
            "epoch": epoch,
            "next": following,
            "rollback": rollback,
            "dispatched": counts.dispatched,
            "mirrored": {"dispatched": sum(self._mirrored.values()), "classes": _named(self._mirrored)},
            "executed": {
                "dispatched": sum(self._executed.values()),
                "classes": _named(self._executed),
                "reasons": dict(sorted(self._reasons.items())),
                "discarded": self._discarded,
            },
            "evidence": {
                "rows": {kind: fold.rows[kind] for kind in ("dispatch", "run", "copy")},
                "repeated_rows": {kind: fold.repeated[kind] for kind in ("dispatch", "run")},
                "undispatched": self._undispatched,
                "unobserved_dispatches": fold.unobserved_dispatches(),
                "unaccounted_dispatches": self._unaccounted(),
                "unobserved_copies": fold.unobserved_copies(),
                "arguments_compared": self._arguments_compared,
                "control": self._control,
                "ambiguous_publishes": self._ambiguous,
                "fallbacks": dict(sorted(self._fallbacks.items())),
            },
            "traffic": [
                {"stage": stage, "epoch": epoch, "route": route, "dispatched": count}
                for (stage, epoch, route), count in sorted(self._traffic.items(), key=lambda item: _by_epoch(item[0]))
            ],
            "sides": {side: self._side(side) for side in SIDES},
            "tasks": [
                {"task": task, **{side: self._task(task, side) for side in SIDES}} for task in sorted(self._outcomes)
            ],
            "findings_total": len(self._findings),
            "findings": [self._finding(*found[3:]) for found in nsmallest(self._question.limit, self._findings)],
        }

    def _counts(self) -> Counts:
        fold = self._fold
        total = sum(self._mirrored.values()) + sum(self._executed.values())
        kept = sum(len(trace.sendings) for trace in fold.traces.values())
        return Counts(
            dispatched=fold.dispatched,
            mirrored=self._mirrored,
            executed=self._executed,
            adds_up=total == fold.dispatched == self._traffic.total()
            and fold.rows["dispatch"] == kept + fold.repeated["dispatch"],
            discarded=self._discarded,
            undispatched_breaches=self._undispatched["duplicates"],
            unobserved=self._unaccounted() or 0,
        )

    def _unaccounted(self) -> int | None:
        # A lost dispatch row shows as a run without one; with a pattern, the runs of other tasks are unknown.
        if self._question.task is not None:
            return None
        return max(self._fold.unobserved_dispatches() - self._undispatched["identities"], 0)

    def _stage(self, flag: Flag | None) -> tuple[str, int | None, int | None]:
        if flag is not None:
            return flag.stage.value, flag.basis_points, flag.epoch
        if not self._traffic:
            return "", None, None
        stage, epoch, _ = max(self._traffic, key=_by_epoch)
        return stage, None, epoch

    def _count_dispatch(self, identity: Identity, trace: Trace) -> None:
        judgement = judge(trace, self._question.until, self._question.horizon)
        last = trace.last_sending()
        self._traffic[last.stage, last.epoch, last.route] += 1
        self._ambiguous += sum(sending.ambiguous for sending in trace.sendings)
        self._fallbacks.update({sending.fallback for sending in trace.sendings if sending.fallback})
        if is_mirrored(trace):
            self._mirrored[judgement.verdict] += 1
            self._count_control(trace)
        else:
            self._executed[judgement.verdict] += 1
            self._reasons.update(judgement.reasons)
            self._discarded += judgement.verdict is Class.ENDED and judgement.breach
        if judgement.listed:
            self._findings.append((not judgement.breach, judgement.verdict.value, last.at, identity, judgement))

    def _count_control(self, trace: Trace) -> None:
        times = len(executions(trace))
        self._control["not_seen" if not times else "ran_once" if times == 1 else "ran_more_than_once"] += 1
        self._arguments_compared += any(run.args for run in trace.runs) and any(copy.args for copy in trace.copies)

    def _count_undispatched(self, identity: Identity, trace: Trace) -> None:
        self._undispatched["identities"] += 1
        self._undispatched["with_runs"] += bool(trace.runs)
        self._undispatched["with_copies"] += bool(trace.copies)
        judgement = judge_undispatched(trace)
        if judgement is not None:
            self._undispatched["duplicates"] += 1
            first = min(run.started for run in trace.runs)
            self._findings.append((False, judgement.verdict.value, first, identity, judgement))

    def _count_runs(self, trace: Trace) -> None:
        for run in trace.runs:
            sides = self._outcomes.setdefault(run.task, {})
            sides.setdefault(run.side, Counter())[run.outcome] += 1
        for run in executions(trace):
            if not run.started:
                continue
            place = run.task, run.side
            # Clocks of two machines may disagree by more than a task waits, and no wait is shorter than none.
            self._execution.setdefault(place, array("d")).append(max(run.finished - run.started, 0.0))
            sent = [sending.runnable for sending in trace.sendings if sending.route == run.side]
            if sent:
                before = [time for time in sent if time <= run.started] or [min(sent)]
                self._wait.setdefault(place, array("d")).append(max(run.started - max(before), 0.0))

    def _side(self, side: str) -> dict[str, Any]:
        outcomes: Counter[str] = Counter()
        for sides in self._outcomes.values():
            outcomes.update(sides.get(side, {}))
        return {
            "outcomes": dict(sorted(outcomes.items())),
            "execution": self._merged(self._execution, side),
            "wait": self._merged(self._wait, side),
        }

    def _task(self, task: str, side: str) -> dict[str, Any]:
        place = task, side
        return {
            "outcomes": dict(sorted(self._outcomes[task].get(side, {}).items())),
            "execution": quantiles(self._execution.get(place, array("d"))),
            "wait": quantiles(self._wait.get(place, array("d"))),
        }

    def _merged(self, durations: Mapping[tuple[str, str], array[float]], side: str) -> Any:
        merged = array("d")
        for (_, of_side), seconds in durations.items():
            if of_side == side:
                merged.extend(seconds)
        return quantiles(merged)

    def _finding(self, identity: Identity, judgement: Judgement) -> dict[str, Any]:
        trace = self._fold.traces[identity]
        sendings, runs, copies = sorted(trace.sendings), sorted(trace.runs), sorted(trace.copies)
        return {
            "class": judgement.verdict.value,
            "breach": judgement.breach,
            "detail": judgement.detail,
            "reasons": list(judgement.reasons),
            "id": identity.task_id,
            "retries": identity.retries,
            "nesting": identity.nesting,
            "task": (sendings or runs or copies)[0].task,
            "key": sendings[0].key if sendings else "",
            "dispatches": [_rounded(sending._asdict()) for sending in sendings],
            "runs": [_rounded(run._asdict()) for run in runs],
            "copies": [_rounded(copy._asdict()) for copy in copies],
        }


def _named(counts: Mapping[Class, int]) -> dict[str, int]:
    return {name.value: count for name, count in counts.items()}


def _by_epoch(traffic: tuple[str, int, str]) -> tuple[int, str, str]:
    stage, epoch, route = traffic
    return epoch, stage, route


def _rounded(row: dict[str, Any]) -> dict[str, Any]:
    shown = {name: round(value, PRECISION) if isinstance(value, float) else value for name, value in row.items()}
    return {name: value for name, value in shown.items() if name not in ("task", "key")}
