"""What the counts mean: a verdict, a sentence, and the commands to go on or back with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from taskbridge.comparison.classes import BREACHES, SETTLED, Class
from taskbridge.cutover import Flag, Stage, next_steps

_BACK = {
    Stage.MIRROR: "off",
    Stage.SHADOW: "mirror",
    Stage.LIVE: "mirror",
    Stage.COMPLETE: "live --percent 100",
}


class Verdict(StrEnum):
    """From the best to the worst; of several services the worst counts."""

    AGREE = "AGREE"
    INSUFFICIENT = "INSUFFICIENT"
    DISAGREE = "DISAGREE"
    INVALID = "INVALID"


EXIT_CODES = {Verdict.AGREE: 0, Verdict.DISAGREE: 1, Verdict.INSUFFICIENT: 3, Verdict.INVALID: 4}
"""Status of `taskbridge report`; 2 is left to errors of use and set-up."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What the verdict on one service rests on."""

    dispatched: int
    mirrored: Mapping[Class, int]
    executed: Mapping[Class, int]
    adds_up: bool
    discarded: int
    """Dead-lettered or rejected unexecuted, for another reason than the death of an executor."""
    undispatched_breaches: int
    unobserved: int
    """Dispatches that producers numbered and of which neither the dispatch nor a run was observed."""


def decide(counts: Counts) -> Verdict:
    """Return the verdict on one service; no data is never a pass."""
    if not counts.adds_up:
        return Verdict.INVALID
    if _breaches(counts):
        return Verdict.DISAGREE
    if not counts.dispatched or counts.unobserved or any(map(_unsettled, (counts.mirrored, counts.executed))):
        return Verdict.INSUFFICIENT
    return Verdict.AGREE


def sentence(service: str, verdict: Verdict, counts: Counts) -> str:
    """Return the verdict as one sentence for a person."""
    total = f"{counts.dispatched:,} dispatch{'es' * (counts.dispatched != 1)} of {service}"
    if verdict is Verdict.INVALID:
        return f"INVALID: the classes do not add up to the {total}; trust no figure here and report a bug."
    if verdict is Verdict.DISAGREE:
        return f"DISAGREE: of {total}, {_listing(_breaches(counts))}."
    if not counts.dispatched:
        return (
            f"INSUFFICIENT: no dispatch of {service} was observed; "
            "is it in mirror or live, and were tasks sent in that time?"
        )
    if verdict is Verdict.INSUFFICIENT:
        if counts.unobserved:
            return (
                f"INSUFFICIENT: beside {total}, about {counts.unobserved:,} were numbered of which nothing was "
                "observed: they raised, or their observations were lost."
            )
        return f"INSUFFICIENT: of {total}, {_listing(_open(counts))}; nothing is settled yet."
    agreed = _listing(_settled(counts))
    waiting = _listing(_open(counts))
    return f"AGREE: of {total}, {agreed}" + (f"; {waiting}." if waiting else ".")


def advice(service: str, verdict: Verdict, stage: str, basis_points: int | None) -> tuple[str, str]:
    """
    Return the next safe command and the rollback command.

    `stage` is empty when it is not known, `basis_points` None; the rollback is empty where there is nothing to roll
    back. Whether a service may go forward is more than this report can tell, so the way forward is first shown by
    `--dry-run`, with everything that it takes.
    """
    cutover = f"taskbridge cutover {service}"
    rollback = f"{cutover} {_BACK[Stage(stage)]}" if stage and Stage(stage) in _BACK else ""
    if verdict is Verdict.DISAGREE and rollback:
        return rollback, rollback
    if stage == Stage.OFF:
        return f"{cutover} {Stage.MIRROR}", rollback
    if verdict is not Verdict.AGREE:
        return f"taskbridge report {service}", rollback
    if stage and basis_points is not None and (steps := next_steps(Flag(service, Stage(stage), basis_points))):
        # Not every task can be run in a sandbox: from mirror the way leads past it.
        following, points = steps[-1] if stage == Stage.MIRROR else steps[0]
        percent = f" --percent {points / 100:g}" if points else ""
        return f"{cutover} {following}{percent} --dry-run", rollback
    return f"taskbridge status {service}", rollback


def worst(verdicts: Sequence[Verdict]) -> Verdict:
    """Return the verdict that counts among those of several services."""
    return max(verdicts, key=list(Verdict).index)


def _unsettled(classes: Mapping[Class, int]) -> bool:
    return sum(classes.values()) > 0 and not any(classes[name] for name in classes if name in SETTLED)


def _breaches(counts: Counts) -> dict[str, int]:
    found: dict[str, int] = {}
    for classes in (counts.mirrored, counts.executed):
        for name, count in classes.items():
            if name in BREACHES and count:
                found[name] = found.get(name, 0) + count
    if counts.discarded:
        found["dead-lettered or discarded"] = counts.discarded
    if counts.undispatched_breaches:
        found["DUPLICATE without an observed dispatch"] = counts.undispatched_breaches
    return found


def _settled(counts: Counts) -> dict[str, int]:
    groups = {
        "copied and equal": (counts.mirrored, (Class.MATCH, Class.REDELIVERED)),
        "executed once on the side they were sent to": (counts.executed, (Class.EXECUTED,)),
        "repeated with an explanation": (counts.executed, (Class.REPEATED,)),
        "ended without running": (counts.executed, (Class.ENDED,)),
    }
    return {words: sum(classes[name] for name in names) for words, (classes, names) in groups.items()}


def _open(counts: Counts) -> dict[str, int]:
    return {
        "whose copy was lost at dispatch": counts.mirrored[Class.LOST_COPY],
        "put aside until due": counts.executed[Class.DELAYED],
        "too young to judge": counts.mirrored[Class.PENDING] + counts.executed[Class.PENDING],
    }


def _listing(words: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in words.items() if count)
