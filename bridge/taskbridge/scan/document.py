"""The scan as JSON types, by a schema with a version of its own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from taskbridge.scan.behaviours import Level
from taskbridge.scan.facts import Call, Place, Sight
from taskbridge.scan.judge import Finding, Judged, Result

SCHEMA = "taskbridge.scan/1"


def document(result: Result) -> dict[str, Any]:
    """Return the whole outcome; fields are only ever added under one version of the schema."""
    app = result.app
    return {
        "schema": SCHEMA,
        "app": None
        if app is None
        else {
            "name": app.name,
            "broker": app.broker,
            "result_backend": app.result_backend,
            "default_queue": app.default_queue,
            "visibility_timeout": app.visibility_timeout,
        },
        "files": result.files,
        "unreadable": [{"file": item.file, "reason": item.reason} for item in result.unreadable],
        "totals": {
            "tasks": len(result.tasks),
            "stops": result.count(Level.STOPS),
            "differs": result.count(Level.DIFFERS),
        },
        "tasks": [_task(item) for item in result.tasks],
        "findings": [_finding(finding) for finding in result.findings],
        "services": {service.name: result.mapping(service) for service in result.services},
    }


def _task(item: Judged) -> dict[str, Any]:
    task, effects, publish = item.task, item.effects, item.publish
    return {
        "name": task.name,
        "module": task.module,
        "file": task.place.file,
        "line": task.place.line,
        "queue": task.queue or None,
        "service": item.service,
        "arguments": [parameter.name for parameter in task.parameters],
        "options": {name: _plain(value) for name, value in sorted(task.options.items())},
        "features": list(item.features),
        "findings": [_finding(finding) for finding in item.findings],
        "key": None
        if item.key is None
        else {"argument": item.key.argument, "confidence": item.key.confidence, "reason": item.key.reason},
        "effects": {
            "class": effects.effects,
            "confidence": effects.confidence,
            "reason": effects.reason,
            "evidence": list(_sights(effects.evidence)),
        },
        "publish": {"mode": publish.mode, "reason": publish.reason, **_place(publish.place)},
        "calls": [_call(call) for call in item.calls],
        "beat": list(item.schedules),
    }


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "feature": finding.feature,
        "level": str(finding.level),
        "text": finding.text,
        "sentence": finding.sentence,
        "remedy": finding.remedy or None,
        **_place(finding.place),
    }


def _sights(sights: Iterable[Sight]) -> Iterable[dict[str, Any]]:
    for sight in sights:
        yield {"kind": sight.kind, "text": sight.text, **_place(sight.place)}


def _call(call: Call) -> dict[str, Any]:
    return {"how": call.how, **_place(call.place), "options": sorted(call.options), "where": sorted(call.where)}


def _place(place: Place | None) -> dict[str, Any]:
    return {"file": place.file if place else None, "line": place.line if place else None}


def _plain(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool | None) else str(value)
