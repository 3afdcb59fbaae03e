"""The description of the HTTP API, in OpenAPI 3.1."""

from __future__ import annotations

from typing import Any

from taskbridge import __version__
from taskbridge.contrib.django.api.problems import TITLES
from taskbridge.contrib.django.api.reading import LONGEST, MOST_ROWS
from taskbridge.contrib.django.rules import ACTIONS
from taskbridge.cutover import Stage

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
TIME: Schema = {"type": "string", "format": "date-time"}
YES_OR_NO: Schema = {"type": "boolean"}
EPOCH: Schema = {"type": "integer", "minimum": 0, "description": "Transitions of this flag so far"}
STAGE: Schema = {"enum": [str(stage) for stage in Stage]}
PERCENT: Schema = {"type": "number", "minimum": 0, "maximum": 100, "description": "Share of keys, in live and shadow"}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _list(schema: Schema) -> Schema:
    return {"type": "array", "items": schema}


def _object(properties: Schema, optional: tuple[str, ...] = (), **more: Any) -> Schema:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required, **more}


def _text(name: str, description: str) -> Schema:
    return {"type": ["string", "null"], "maxLength": LONGEST[name], "description": description}


FLAG = {"stage": STAGE, "percent": PERCENT, "epoch": EPOCH, "hold": YES_OR_NO}
CLEARED = {"cleared": {"type": "boolean", "description": "A task's flag only: its service decides"}}

STANDING: Schema = FLAG | {"changed_at": _or_null(TIME)}

OUTCOME: Schema = {
    "service": TEXT,
    "task": {"type": "string", "description": "Empty where the service is meant"},
    "action": {"enum": list(ACTIONS)},
    "before": _ref("Flag"),
    "after": _ref("Flag"),
    "created": _ref("Preparations"),
    "rollback": _or_null({"type": "string", "description": "The command that undoes it, as far as one can"}),
    "changed": YES_OR_NO,
    "repeated": {"type": "boolean", "description": "This request_id was carried out before; this is what it did then"},
    "cleared_tasks": {**_list(TEXT), "description": "Tasks that lose their own stage with it"},
}

SCHEMAS: Schema = {
    "Flag": _object(FLAG | CLEARED, optional=("cleared",)),
    "Task": _object({"task": TEXT} | STANDING),
    "Cutover": _object(
        {"service": TEXT}
        | STANDING
        | {
            "fenced": {"type": "boolean", "description": "Keys of an ordered service change side; messages wait"},
            "tasks": {**_list(_ref("Task")), "description": "Tasks that have a stage of their own"},
        }
    ),
    "Cutovers": _object({"cutovers": _list(_ref("Cutover"))}),
    "Condition": _object({"name": TEXT, "ok": YES_OR_NO, "sentence": TEXT, "overridable": YES_OR_NO}),
    "Verdict": _object(
        {"state": {"enum": ["READY", "NOT_READY", "INSUFFICIENT"]}, "sentence": TEXT, "figures": {"type": "object"}}
    ),
    "Preparations": _object(
        {
            "topics": _list(
                _object({"name": TEXT, "partitions": {"type": "integer"}, "state": {"enum": ["created", "missing"]}})
            ),
            "offsets": _list(
                _object(
                    {
                        "group": TEXT,
                        "topic": TEXT,
                        "seeded": {"type": "object", "description": "Partition -> offset"},
                    }
                )
            ),
        }
    ),
    "Done": _object(OUTCOME | {"dry_run": {"const": False}, "overridden": _list(_ref("Condition"))}),
    "Plan": _object(
        OUTCOME
        | {
            "dry_run": {"const": True},
            "allowed": {"type": "boolean", "description": "Whether nothing stands against it"},
            "conditions": _list(_ref("Condition")),
            "verdict": _or_null(_ref("Verdict")),
        }
    ),
    "TransitionRequest": _object(
        {
            "action": {"enum": [*ACTIONS, None], "default": "move"},
            "stage": {"enum": [*(str(stage) for stage in Stage), None], "description": "Where to move"},
            "percent": {
                "type": ["number", "null"],
                "minimum": 0.01,
                "maximum": 100,
                "description": "With live and shadow",
            },
            "task": _text("task", "Move this task only"),
            "reason": _text("reason", "Why; it stands in the audit"),
            "override": {"type": ["boolean", "null"], "description": "Lift what may be lifted; needs a reason"},
            "expected_epoch": {"type": ["integer", "null"], "minimum": 0, "description": "Refuse in another epoch"},
            "dry_run": {"type": ["boolean", "null"], "description": "Check everything and change nothing"},
            "request_id": _text("request_id", "The caller's own id: a request that was carried out is not repeated"),
            "requested_by": _text("requested_by", "On whose behalf; stands in the audit behind the client's name"),
        },
        optional=(
            "action", "stage", "percent", "task", "reason", "override", "expected_epoch", "dry_run", "request_id",
            "requested_by",
        ),
        additionalProperties=False,
    ),
    "Transition": _object(
        {
            "id": {"type": "integer"},
            "at": TIME,
            "service": TEXT,
            "task": TEXT,
            "action": TEXT,
            "who": TEXT,
            "why": TEXT,
            "override": YES_OR_NO,
            "verdict": _or_null(_ref("Verdict")),
            "request_id": TEXT,
            "before": _ref("Flag"),
            "after": _ref("Flag"),
        }
    ),
    "Audit": _object(
        {
            "transitions": {**_list(_ref("Transition")), "description": "The newest first"},
            "next": _or_null({"type": "integer", "description": "Give it as `before` to go on"}),
        }
    ),
    "Problem": _object(
        {
            "type": TEXT,
            "title": TEXT,
            "status": {"type": "integer"},
            "detail": {"type": "string", "description": "One sentence: what happened, and what to do"},
            "conditions": {**_list(_ref("Condition")), "description": "With 422: everything that it takes"},
        },
        optional=("conditions",),
    ),
}  # fmt: skip


def _responses(name: str, *problems: int) -> Schema:
    content = {"application/json": {"schema": _ref(name) if name else {"type": "object"}}}
    found: Schema = {"200": {"description": "Done", "content": content}}
    for status in sorted({401, 404, 405, 500, 503, *problems}):
        found[str(status)] = {
            "description": TITLES[status],
            "content": {"application/problem+json": {"schema": _ref("Problem")}},
        }
    return found


def _parameter(name: str, where: str, schema: Schema, description: str) -> Schema:
    return {"name": name, "in": where, "required": where == "path", "schema": schema, "description": description}


SERVICE = _parameter("service", "path", TEXT, "A service of TASKBRIDGE")

DOCUMENT: Schema = {
    "openapi": "3.1.0",
    "info": {
        "title": "taskbridge",
        "version": __version__,
        "summary": "How services stand between Celery and Kafka, and how they move.",
        "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
    },
    "security": [{"token": []}],
    "paths": {
        "/cutovers": {
            "get": {"operationId": "listCutovers", "summary": "Every service", "responses": _responses("Cutovers")}
        },
        "/cutovers/{service}": {
            "parameters": [SERVICE],
            "get": {"operationId": "readCutover", "summary": "One service", "responses": _responses("Cutover")},
        },
        "/cutovers/{service}/transition": {
            "parameters": [SERVICE],
            "post": {
                "operationId": "transition",
                "summary": "Move a service or a task, or show what that would take",
                "parameters": [
                    _parameter("X-Requested-By", "header", TEXT, "On whose behalf, where requested_by does not say")
                ],
                "requestBody": {
                    "required": True,
                    "content": {"application/json": {"schema": _ref("TransitionRequest")}},
                },
                "responses": _responses("", 400, 403, 409, 413, 415, 422)
                | {
                    "200": {
                        "description": "What was done, or with dry_run what would be",
                        "content": {"application/json": {"schema": {"oneOf": [_ref("Done"), _ref("Plan")]}}},
                    }
                },
            },
        },
        "/cutovers/{service}/audit": {
            "parameters": [SERVICE],
            "get": {
                "operationId": "readAudit",
                "summary": "Who moved it, when and why",
                "parameters": [
                    _parameter("limit", "query", {"type": "integer", "minimum": 1, "maximum": MOST_ROWS}, "Rows"),
                    _parameter("since", "query", TIME, "Only what happened since then"),
                    _parameter("before", "query", {"type": "integer"}, "Only what is older than this id"),
                ],
                "responses": _responses("Audit", 400),
            },
        },
        "/openapi.json": {"get": {"operationId": "describe", "summary": "This document", "responses": _responses("")}},
    },
    "components": {
        "schemas": SCHEMAS,
        "securitySchemes": {
            "token": {"type": "http", "scheme": "bearer", "description": "The content of a file in api_tokens"}
        },
    },
}
