"""
What a Cutover shows: where the service stands, what became of the request, and whether the two agree.

Pure: everything that counts is an argument.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lagscaler.bridge.client import Done, Move, Outlook, RequestRefusedError, Standing
from lagscaler.controller.requests import Asked, settled
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
    """Return the next step forward of a service; None when it is complete."""
    match standing.stage:
        case "off":
            return "mirror", None
        case "mirror":
            return "shadow", RUNGS[0]
        case "shadow" | "live" as stage:
            further = next((rung for rung in RUNGS if rung > standing.percent), None)
            if further is not None:
                return stage, further
            return ("live", RUNGS[0]) if stage == "shadow" else ("complete", None)
    return None


def applied(cutover: Cutover, request: Asked, done: Done, now: float) -> dict[str, Any]:
    """Return what the status keeps of a request that was carried out."""
    after = done.after
    where = step_words(after.stage, after.percent) + (" on hold" if after.hold else "")
    lifted = f", lifting {', '.join(done.overridden)}" if done.overridden else ""
    sentence = f"{request.words}: done{lifted}; {cutover.service} is {where}."
    if not done.changed and not done.repeated:
        sentence = f"{request.words}: {cutover.service} is {where} already."
    place: dict[str, Any] = {"hold": after.hold}
    if request.action in {"move", "kill"}:
        place |= {"stage": after.stage, "percent": after.percent}
    else:
        # Where it should be was asked for before, if it was.
        place = {**(_last(cutover).get("after") or {}), **place}
    return _answered(cutover, request.action, "Applied", sentence, now) | {
        "after": place,
        **({"rollback": done.rollback} if done.rollback else {}),
    }


def refused(cutover: Cutover, request: Asked, error: RequestRefusedError, now: float) -> dict[str, Any]:
    """Return what the status keeps of a request that was refused: it is not made again until the spec changes."""
    sentence = f"{request.words} is refused: {str(error).rstrip('.')}."
    return _answered(cutover, request.action, "Refused", sentence, now) | {"missing": list(error.missing)}


def nothing_asked(cutover: Cutover, now: float) -> dict[str, Any]:
    """Return what the status keeps of a change of the spec that asks for nothing: where the service should be stays."""
    last = _last(cutover)
    if cutover.wish.stage is None and not cutover.wish.hold and not cutover.wish.kill:
        return _answered(cutover, "", "", "Nothing is asked for.", now)
    kept = {name: last[name] for name in ("after", "rollback") if name in last}
    return _answered(cutover, "", "", "The change asks for nothing.", now) | kept


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
        status |= _outlook(known.outlook, known.step)
    elif known.standing is not None and next_step(known.standing) is None:
        status.pop("next", None)
        status.pop("verdict", None)
    accepted = _accepted(cutover, request, known)
    conditions = [_reachable(known), accepted, _in_sync(accepted, request, status)]
    status |= {
        "observedGeneration": (request or {}).get("generation", before.get("observedGeneration", 0)),
        "requested": _place((request or {}).get("after") or {}) if accepted.status == "True" else cutover.wish.words,
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
        "spec": {name: value for name, value in cutover.wish.document().items() if value is not None},
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
            how = " Ask again with a new spec.reason, when that is met."
            return Condition("Accepted", "False", "Refused", f"{request.get('message', '')}{needs}{how}")
    return Condition("Accepted", "True", "NothingRequested", str(request.get("message", "")))


def _in_sync(accepted: Condition, request: Mapping[str, Any] | None, status: Mapping[str, Any]) -> Condition:
    """Whether the service stands where it was asked to."""
    if accepted.status != "True":
        return Condition(
            "InSync", "Unknown" if accepted.status == "Unknown" else "False", accepted.reason, accepted.message
        )
    after = (request or {}).get("after")
    if not after:
        return Condition("InSync", "True", "NothingRequested", "Nothing is asked for.")
    if "stage" not in status:
        return Condition("InSync", "Unknown", "Starting", "The bridge was not asked yet.")
    there = {name: status[name] for name in after}
    if _place(after) == _place(there):
        return Condition("InSync", "True", "AsRequested", "The service stands where it was asked to.")
    who = f" by {status['changedBy']}" if status.get("changedBy") else ""
    why = f" ({status['changedWhy']})" if status.get("changedWhy") else ""
    return Condition(
        "InSync",
        "False",
        "MovedElsewhere",
        f"It was asked to be {_place(after)} and was moved to {_place(there)}{who}{why}; nothing is undone."
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
