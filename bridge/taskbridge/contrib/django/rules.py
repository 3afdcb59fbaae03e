"""What a transition asks for, where it would lead, and which rules of the flags themselves stand against it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal, get_args

from taskbridge.cutover import BASIS_POINTS, PERCENTAGES, Flag, Stage, check_step, is_forward
from taskbridge.exceptions import TransitionOvertaken, TransitionRefused
from taskbridge.ports import Assessment
from taskbridge.settings import Settings

Action = Literal["move", "kill", "hold", "release", "clear"]

ACTIONS: tuple[str, ...] = get_args(Action)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """
    One transition that somebody asks for.

    `move` goes to `stage`, with `basis_points` where the stage takes a percentage. `kill` brings a whole service to
    `off` and lets no task of it have a stage of its own. `hold` freezes promotion and `release` ends that. `clear` lets
    the service decide on a task again. `task` is empty where the service is meant. `override` lifts what may be lifted
    and needs `why`. With `expected_epoch` the flag must still be in that epoch. A `request_id` that was seen before
    stands for the same request: it is answered again and not carried out again.
    """

    service: str
    action: Action = "move"
    stage: Stage | None = None
    basis_points: int = 0
    task: str = ""
    who: str
    why: str = ""
    override: bool = False
    expected_epoch: int | None = None
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class Condition:
    """One thing that must be so for a transition; `overridable` says that an operator may decide otherwise."""

    name: str
    ok: bool
    sentence: str
    overridable: bool = False


@dataclass(frozen=True, slots=True)
class Standing:
    """
    How a service stands: its flag, and those of single tasks, cleared ones included.

    `changed_at` is None for a service that was never moved. `held` says who holds what since when:
    by task name, with an empty name for the service.
    """

    flag: Flag
    changed_at: datetime | None = None
    tasks: Mapping[str, Flag] = field(default_factory=dict)
    held: Mapping[str, str] = field(default_factory=dict)

    def of(self, task: str) -> Flag:
        """
        Return the flag that decides on a task (or, for an empty name, on the service).

        For a task without a stage of its own that is its service's stage, in a flag that is `cleared`.
        """
        if not task:
            return self.flag
        own = self.tasks.get(task) or Flag(self.flag.service, Stage.OFF, task=task, cleared=True)
        if own.cleared:
            return replace(own, stage=self.flag.stage, basis_points=self.flag.basis_points, hold=False)
        return own

    def pinned(self) -> dict[str, Flag]:
        """Return the flags of the tasks that have a stage of their own."""
        return {task: flag for task, flag in self.tasks.items() if not flag.cleared}


def check(request: Request, settings: Settings) -> None:
    """Raise TransitionRefused for a request that makes no sense, whatever the flags are."""
    if request.service not in settings.services:
        known = ", ".join(sorted(settings.services))
        raise TransitionRefused(f"there is no service {request.service!r}; TASKBRIDGE names: {known}")
    if request.action == "move" and request.stage is None:
        raise TransitionRefused("a move needs a stage to go to")
    if request.action != "move" and (request.stage is not None or request.basis_points):
        raise TransitionRefused(f"{request.action} takes no stage")
    if request.stage is not None:
        highest = BASIS_POINTS if request.stage in PERCENTAGES else 0
        lowest = 1 if request.stage in PERCENTAGES else 0
        if not lowest <= request.basis_points <= highest:
            raise TransitionRefused(
                f"{request.basis_points} basis points do not go with {request.stage}: give {lowest} to {highest}"
            )
    if request.action == "kill" and request.task:
        raise TransitionRefused(f"kill takes a whole service; to stop one task, move {request.task} to off")
    if request.action == "clear" and not request.task:
        raise TransitionRefused("clear takes a task: it lets the task's service decide again")
    if request.task and settings.services[request.service].ordered:
        raise TransitionRefused(
            f"{request.service} is an ordered service, whose tasks move together: leave out the task {request.task}"
        )
    if request.override and not request.why.strip():
        raise TransitionRefused("an override needs a reason, because it stands in the audit: say why")
    if "\0" in request.why + request.who + request.task + request.request_id:
        raise TransitionRefused("a reason, a name or a request id holds a NUL character, which PostgreSQL cannot store")


def check_epoch(request: Request, before: Flag) -> None:
    """Raise TransitionOvertaken unless the flag is in the epoch that the request expects."""
    if request.expected_epoch is not None and request.expected_epoch != before.epoch:
        raise TransitionOvertaken(
            f"{name_of(before)} was moved meanwhile: it is {words(before)} in epoch {before.epoch}, "
            f"not in epoch {request.expected_epoch}; look at `taskbridge status {before.service}` and repeat"
        )


def aim(request: Request, standing: Standing) -> Flag:
    """
    Return the flag as the request would leave it; equal to the flag before when there is nothing to do.

    Epoch and version are those of before, because nothing is done yet. Raises TransitionRefused when a task is to be
    held, released or cleared that has no stage of its own.
    """
    before = standing.of(request.task)
    if request.task and before.cleared and request.action in {"hold", "release"}:
        raise TransitionRefused(
            f"{request.task} has no stage of its own, it goes with {request.service}: hold or release that"
        )
    match request.action:
        case "hold" | "release":
            return replace(before, hold=request.action == "hold")
        case "kill":
            return replace(before, stage=Stage.OFF, basis_points=0)
        case "clear":
            flag = standing.flag
            return replace(before, stage=flag.stage, basis_points=flag.basis_points, hold=False, cleared=True)
        case "move":
            stage = request.stage or before.stage
            return replace(before, stage=stage, basis_points=request.basis_points, cleared=False)


def forward(before: Flag, after: Flag) -> bool:
    """Return whether more goes to Kafka afterwards than before: only that has conditions."""
    return is_forward(before, after.stage, after.basis_points)


def needs_verdict(before: Flag, after: Flag) -> bool:
    """Return whether the evidence must be READY: forward, beyond mirror."""
    return forward(before, after) and after.stage is not Stage.MIRROR


def conditions(
    request: Request, standing: Standing, after: Flag, verdict: Assessment | None = None
) -> Sequence[Condition]:
    """Return what the flags, and the evidence, say about a transition; empty for one that does not lead forward."""
    before = standing.of(request.task)
    if not forward(before, after):
        return ()
    found = [_not_held(request, standing)]
    if request.action == "move":
        found.append(_step(before, after))
    if needs_verdict(before, after):
        if verdict is None:
            found.append(Condition("verdict", False, "nobody has judged the evidence", overridable=True))
        else:
            found.append(Condition("verdict", verdict.ready, verdict.sentence, overridable=True))
    return found


def refusal(request: Request, before: Flag, after: Flag, against: Sequence[Condition]) -> TransitionRefused:
    """Return the error that names everything that stands against a transition, and whether it can be lifted."""
    sentences = "; ".join(one.sentence for one in against)
    lift = ""
    if not request.override and all(one.overridable for one in against):
        lift = "; an override with a reason (--override --reason) lifts that"
    if [(one.name, one.overridable) for one in against] == [("step", False)]:
        return TransitionRefused(sentences)
    return TransitionRefused(f"{name_of(before)} cannot go to {words(after)}: {sentences}{lift}")


def name_of(flag: Flag) -> str:
    """Return what a flag is about: its task, or its service."""
    return flag.task or flag.service


def words(flag: Flag) -> str:
    """Return a stage as people write it: `mirror`, `live 10%`."""
    percent = f" {flag.basis_points / 100:g}%" if flag.stage in PERCENTAGES else ""
    return f"{flag.stage}{percent}" + (f" (as {flag.service} is)" if flag.cleared else "")


def _not_held(request: Request, standing: Standing) -> Condition:
    for task in dict.fromkeys(("", request.task)):
        flag = standing.flag if not task else standing.tasks.get(task)
        if flag is not None and flag.hold and not flag.cleared:
            since = standing.held.get(task, "")
            option = f" --task {task}" if task else ""
            return Condition(
                "hold",
                False,
                f"{name_of(flag)} is held{since}: `taskbridge release {request.service}{option}` ends that",
            )
    return Condition("hold", True, "nobody holds it")


def _step(before: Flag, after: Flag) -> Condition:
    try:
        check_step(before, after.stage, after.basis_points, override=True)
    except TransitionRefused as refused:
        return Condition("step", False, str(refused))
    try:
        check_step(before, after.stage, after.basis_points)
    except TransitionRefused as refused:
        # What is said before is said of the whole transition, and what is said after of all that may be lifted.
        near = str(refused).partition(" at once: ")[2].partition("; --override")[0]
        return Condition("step", False, near, overridable=True)
    return Condition("step", True, f"from {words(before)} it is one step")
