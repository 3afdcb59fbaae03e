"""Flags, plans and outcomes as JSON types, for the command line and the HTTP API alike."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC
from typing import Any

from taskbridge.contrib.django.moves import Done, Plan, Preparations, way_back
from taskbridge.contrib.django.rules import Condition, Request
from taskbridge.contrib.django.site import ServiceState
from taskbridge.contrib.django.store import FlagState
from taskbridge.cutover import Flag


def flag_document(flag: Flag) -> dict[str, Any]:
    """Return a flag; only a task's says whether it is `cleared`."""
    found: dict[str, Any] = {
        "stage": str(flag.stage),
        "percent": flag.basis_points / 100,
        "epoch": flag.epoch,
        "hold": flag.hold,
    }
    return found | ({"cleared": flag.cleared} if flag.task else {})


def service_document(found: ServiceState) -> dict[str, Any]:
    """Return how a service stands, with the tasks that have a stage of their own."""
    return {
        "service": found.flag.service,
        **_state(found.flag, found.state),
        "fenced": found.flag.fence is not None,
        "tasks": [{"task": task, **_state(state.flag, state)} for task, state in found.tasks.items()],
    }


def plan_document(planned: Plan) -> dict[str, Any]:
    """Return what a request would do, and its conditions."""
    return _move(planned.request, planned.before, planned.after, planned.preparations) | {
        "changed": False,
        "dry_run": True,
        "repeated": False,
        "cleared_tasks": list(planned.cleared),
        "allowed": not planned.against,
        "conditions": conditions_document(planned.conditions),
        "verdict": planned.verdict.document() if planned.verdict else None,
    }


def done_document(done: Done) -> dict[str, Any]:
    """Return what a request did."""
    change = done.change
    return _move(done.request, change.before, change.after, done.preparations) | {
        "changed": change.happened and not change.repeated,
        "dry_run": False,
        "repeated": change.repeated,
        "cleared_tasks": list(change.cleared),
        "overridden": conditions_document(done.lifted),
    }


def conditions_document(conditions: Sequence[Condition]) -> list[dict[str, Any]]:
    """Return conditions, in order."""
    return [
        {"name": one.name, "ok": one.ok, "sentence": one.sentence, "overridable": one.overridable} for one in conditions
    ]


def _state(flag: Flag, state: FlagState | None) -> dict[str, Any]:
    found = flag_document(flag)
    found.pop("cleared", None)
    return found | {"changed_at": state.changed_at.astimezone(UTC).isoformat() if state else None}


def _move(request: Request, before: Flag, after: Flag, preparations: Preparations) -> dict[str, Any]:
    return {
        "service": request.service,
        "task": request.task,
        "action": request.action,
        "before": flag_document(before),
        "after": flag_document(after),
        "created": preparations.document(),
        "rollback": way_back(before, after) if before != after else None,
    }
