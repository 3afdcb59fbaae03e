"""
What a Cutover shows: where the service stands, what became of the request, and whether the two agree.

Pure: everything that counts is an argument.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lagscaler.bridge.client import Done, Move, Outlook, RequestRefusedError, Standing
from lagscaler.controller.requests import Asked, basis, kept, settled
from lagscaler.resources.conditions import Condition, truth, written
from lagscaler.resources.cutover import PARTIAL, Cutover, step_words
from lagscaler.resources.reading import time_text

RUNGS = (1.0, 5.0, 25.0, 50.0, 100.0)
"""Percentages at which a service rests on its way forward, as the bridge has them."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why the bridge cannot be asked."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of the service."""

    standing: Standing | None = None
    move: Move | None = None
    outlook: Outlook | None = None
    step: str = ""
    """The step that `outlook` is about."""
    trouble: Trouble | None = None
    elder: Cutover | None = None
    """An older Cutover of the same service."""


def next_step(standing: Standing) -> tuple[str, float | None] | None:
    """Return the next step forward of a service, the one that the bridge's report names; None when it is complete."""
    match standing.stage:
        case "off":
            return "mirror", None
        case "mirror":
            # Shadow executes nothing, so it would ask neither for workers nor for tasks that they support.
            return "live", RUNGS[0]
        case "shadow" | "live" as stage:
            further = next((rung for rung in RUNGS if rung > standing.percent), None)
            if further is not None:
                return stage, further
            return ("live", RUNGS[0]) if stage == "shadow" else ("complete", None)
    return None


def applied(cutover: Cutover, made: Sequence[tuple[Asked, Done]], now: float) -> dict[str, Any]:
    """Return what the status keeps of requests that were carried out, in their order."""
    # Where it should be was asked for before, if it was.
    place = dict(_last(cutover).get("after") or {})
    for request, done in made:
        place["hold"] = done.after.hold
        if request.action in {"move", "kill"}:
            place |= {"stage": done.after.stage, "percent": done.after.percent}
    request, done = made[-1]
    sentence = " ".join(_done(cutover, *one) for one in made)
    return _answered(cutover, request.action, "Applied", sentence, now) | {
        "after": place,
        **({"rollback": done.rollback} if done.rollback else {}),
    }


def refused(
    cutover: Cutover,
    made: Sequence[tuple[Asked, Done]],
    undone: Sequence[Asked],
    error: RequestRefusedError,
    now: float,
) -> dict[str, Any]:
    """
    Return what the status keeps of requests of which one was refused: they are not made again until the spec changes.

    `made` were carried out, and of `undone` the first was refused and the others were not sent.
    """
    sentences = [_done(cutover, *one) for one in made]
    sentences.append(f"{undone[0].words} is refused: {str(error).rstrip('.')}.")
    answer = _answered(cutover, undone[0].action, "Refused", " ".join(sentences), now)
    answer |= {"missing": list(error.missing), "spec": kept(basis(cutover, undone))}
    # Of what was sent before and got no answer, a part may have been left undone with these.
    sent = [one for one in _last(cutover).get("sent") or () if one != kept(cutover.wish)]
    if sent and (len(undone) > 1 or undone[0].action in {"hold", "release"}):
        answer["sent"] = sent
    return answer


def taken(cutover: Cutover, elder: Cutover, now: float) -> dict[str, Any]:
    """Return what the status keeps of a spec that met an older Cutover: none of it was sent, nor will be by itself."""
    sentence = f"{cutover.service} was asked for by the older Cutover {elder.key}."
    last = _last(cutover)
    # Nothing of it was sent: what it asks for is still what it differs in from the one before it.
    stays = {name: last[name] for name in ("spec", "sent") if name in last}
    return _answered(cutover, "", "Refused", sentence, now) | {"spec": {}} | stays


def _done(cutover: Cutover, request: Asked, done: Done) -> str:
    where = step_words(done.after.stage, done.after.percent) + (" on hold" if done.after.hold else "")
    if not done.changed and not done.repeated:
        return f"{request.words}: {cutover.service} is {where} already."
    lifted = f", lifting {', '.join(done.overridden)}" if done.overridden else ""
    return f"{request.words}: done{lifted}; {cutover.service} is {where}."


def nothing_asked(cutover: Cutover, now: float) -> dict[str, Any]:
    """Return what the status keeps of a change of the spec that asks for nothing: where the service should be stays."""
    last = _last(cutover)
    if cutover.wish.stage is None and not cutover.wish.hold and not cutover.wish.kill:
        return _answered(cutover, "", "", "Nothing is asked for.", now)
    stays = {name: last[name] for name in ("after", "rollback") if name in last}
    return _answered(cutover, "", "", "The change asks for nothing.", now) | stays


def status_of(cutover: Cutover, request: Mapping[str, Any] | None, known: Known, now: float) -> dict[str, Any]:
    """Return the status; `request` is what became of the last one. What cannot be asked now stays as it was."""
    before = cutover.status
    status = {name: before[name] for name in _OF_THE_BRIDGE if name in before}
    if request:
        status["request"] = dict(request)
    if known.standing is not None:
        status |= _standing(known.standing)
        move = known.move if known.move and known.move.epoch == known.standing.epoch else None
        for name in ("changedBy", "changedWhy"):
            status.pop(name, None)
        if move is not None:
            status |= {"changedBy": move.who, "changedWhy": move.why}
    if known.outlook is not None:
        # What was said of another step says nothing of this one.
        status.pop("verdict", None)
        status |= _outlook(known.outlook, known.step)
    elif known.standing is not None and next_step(known.standing) is None:
        status.pop("next", None)
        status.pop("verdict", None)
    accepted = _accepted(cutover, request, known)
    conditions = [_reachable(known), accepted, _in_sync(accepted, _wanted(cutover, request), status)]
    status |= {
        "observedGeneration": (request or {}).get("generation", before.get("observedGeneration", 0)),
        "requested": _place(_wanted(cutover, request)) if accepted.status == "True" else cutover.wish.words,
        "conditions": written(conditions, before.get("conditions") or (), cutover.generation, now),
    }
    return status


_OF_THE_BRIDGE = (
    "stage", "percent", "hold", "epoch", "fenced", "tasks", "changedAt", "changedBy", "changedWhy", "verdict", "next",
)  # fmt: skip


def _last(cutover: Cutover) -> Mapping[str, Any]:
    found: Mapping[str, Any] = cutover.status.get("request") or {}
    return found


def _answered(cutover: Cutover, action: str, outcome: str, sentence: str, now: float) -> dict[str, Any]:
    return {
        "generation": cutover.generation,
        "action": action,
        "outcome": outcome,
        "time": time_text(now),
        "message": sentence,
        "spec": kept(basis(cutover)),
    }


def _standing(standing: Standing) -> dict[str, Any]:
    found: dict[str, Any] = {
        "stage": standing.stage,
        "hold": standing.hold,
        "epoch": standing.epoch,
        "fenced": standing.fenced,
        "tasks": standing.tasks,
        # Other stages mean every message or none: a number would only look as if it could be changed.
        "percent": standing.percent if standing.stage in PARTIAL else 100.0 if standing.stage == "complete" else 0.0,
    }
    if standing.changed_at:
        found["changedAt"] = standing.changed_at
    return found


def _outlook(outlook: Outlook, step: str) -> dict[str, Any]:
    found: dict[str, Any] = {"next": {"step": step, "allowed": outlook.allowed, "missing": list(outlook.missing)}}
    if outlook.verdict:
        found["verdict"] = {"state": outlook.verdict, "sentence": outlook.sentence}
    return found


def _reachable(known: Known) -> Condition:
    if known.trouble is not None:
        return Condition("BridgeReachable", "False", known.trouble.reason, f"{known.trouble.message.rstrip('.')}.")
    if known.standing is None:
        return Condition("BridgeReachable", "Unknown", "Starting", "The bridge was not asked yet.")
    return Condition("BridgeReachable", "True", "Answers", "The bridge answers.")


def _accepted(cutover: Cutover, request: Mapping[str, Any] | None, known: Known) -> Condition:
    """Whether the bridge did what this generation asked for."""
    if known.elder is not None:
        return Condition(
            "Accepted",
            "False",
            "ServiceTaken",
            f"{cutover.service} is asked for by the older Cutover {known.elder.key}; delete one of the two.",
        )
    if not settled(cutover) and (request or {}).get("generation") != cutover.generation:
        return Condition("Accepted", "Unknown", "Pending", "The request was not answered yet.")
    request = request or {}
    match request.get("outcome"):
        case "Applied":
            return Condition("Accepted", "True", "Applied", str(request.get("message", "")))
        case "Refused":
            missing = request.get("missing") or ()
            needs = f" It takes: {'; '.join(missing)}." if missing else ""
            how = f" Ask again with a new spec.reason{', when that is met' if request.get('action') else ''}."
            return Condition("Accepted", "False", "Refused", f"{request.get('message', '')}{needs}{how}")
    return Condition("Accepted", "True", "NothingRequested", str(request.get("message", "")))


def _wanted(cutover: Cutover, request: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return where the service was asked to be; empty when nobody asked for anything."""
    after = dict((request or {}).get("after") or {})
    # The spec says whether it is to be held: who else holds it, or lets it go, does so against it.
    return after | {"hold": cutover.wish.hold} if after or cutover.wish.hold else {}


def _in_sync(accepted: Condition, wanted: Mapping[str, Any], status: Mapping[str, Any]) -> Condition:
    """Whether the service stands where it was asked to."""
    if accepted.status != "True":
        return Condition(
            "InSync", "Unknown" if accepted.status == "Unknown" else "False", accepted.reason, accepted.message
        )
    if not wanted:
        return Condition("InSync", "True", "NothingRequested", "Nothing is asked for.")
    if "stage" not in status:
        return Condition("InSync", "Unknown", "Starting", "The bridge was not asked yet.")
    there = {name: status[name] for name in wanted}
    if _place(wanted) == _place(there):
        return Condition("InSync", "True", "AsRequested", "The service stands where it was asked to.")
    who = f" by {status['changedBy']}" if status.get("changedBy") else ""
    why = f" ({status['changedWhy']})" if status.get("changedWhy") else ""
    return Condition(
        "InSync",
        "False",
        "MovedElsewhere",
        f"It was asked to be {_place(wanted)} and was moved to {_place(there)}{who}{why}; nothing is undone."
        " To ask for something, change the spec.",
    )


def _place(found: Mapping[str, Any]) -> str:
    """Return where a service is, or was asked to be, as people write it; empty for nowhere."""
    hold = "on hold" if found.get("hold") else "" if found.get("stage") else "not on hold"
    return " ".join(word for word in (step_words(found.get("stage"), found.get("percent")), hold) if word and found)


def in_sync(status: Mapping[str, Any]) -> bool:
    """Return whether a status says that the service stands where it was asked to."""
    conditions = status.get("conditions") or ()
    return any(one["type"] == "InSync" and one["status"] == truth(value=True) for one in conditions)
