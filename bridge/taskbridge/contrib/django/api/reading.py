"""What a client sends, checked and turned into a request."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest

from taskbridge.contrib.django.api.auth import Client
from taskbridge.contrib.django.api.problems import ProblemError
from taskbridge.contrib.django.rules import ACTIONS, Request
from taskbridge.cutover import Stage, target

LARGEST = 64 * 1024
"""Bytes of a body: a reason may be long, but not that long."""

DRAINED = 1024 * 1024
"""Bytes of a body that is refused which are read all the same."""

LONGEST = {"task": 500, "reason": 2_000, "request_id": 200, "requested_by": 200}
"""Characters of each text."""

MOST_ROWS = 500

FIELDS = {
    "action": (str,), "stage": (str,), "percent": (int, float), "task": (str,), "reason": (str,), "override": (bool,),
    "expected_epoch": (int,), "dry_run": (bool,), "request_id": (str,), "requested_by": (str,),
}  # fmt: skip


def body(request: HttpRequest) -> dict[str, Any]:
    """Return the JSON object in a request's body; raise ProblemError 413, 415 or 400."""
    if request.content_type != "application/json":
        raise ProblemError(415, "send the body as application/json")
    try:
        length = int(request.headers.get("Content-Length") or 0)
        content = request.body if length <= LARGEST else b""
    except (RequestDataTooBig, ValueError):
        length = LARGEST + 1
    if length > LARGEST or len(content) > LARGEST:
        raise ProblemError(413, f"the body is larger than {LARGEST:,} bytes")
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        raise ProblemError(400, "the body is not JSON") from None
    if not isinstance(found, dict):
        raise ProblemError(400, "the body must be a JSON object")
    return found


def drain(request: HttpRequest) -> None:
    """
    Read what is left of a body that nobody looked at.

    A server that closes a connection on which something is still coming takes the answer away with it.
    """
    with suppress(OSError, ValueError):
        if int(request.headers.get("Content-Length") or 0) <= DRAINED:
            while request.read(LARGEST):
                pass


def transition(request: HttpRequest, client: Client, service: str) -> tuple[Request, bool]:
    """
    Return what a client asks for, and whether only to show it.

    Raises ProblemError 400 for a body of another form, TransitionRefused for one that makes no sense.
    """
    found = _checked(body(request))
    action = found.get("action", "move")
    if action not in ACTIONS:
        raise ProblemError(400, f"action must be one of {', '.join(ACTIONS)}, not {action!r}")
    stage = Stage.parse(found["stage"]) if "stage" in found else None
    percent = found.get("percent")
    if stage is None and percent is not None:
        raise ProblemError(400, "percent goes with a stage")
    wanted = Request(
        service=service,
        action=action,
        stage=stage,
        basis_points=target(stage, percent) if stage else 0,
        task=found.get("task", ""),
        who=_who(client, found.get("requested_by") or request.headers.get("X-Requested-By", "")),
        why=found.get("reason", ""),
        override=found.get("override", False),
        expected_epoch=found.get("expected_epoch"),
        request_id=found.get("request_id", ""),
    )
    return wanted, found.get("dry_run", False)


def window(request: HttpRequest) -> tuple[int, datetime | None, int | None]:
    """Return how many rows of the audit are wanted, since when, and before which id; raise ProblemError 400."""
    for name in request.GET:
        if name not in {"limit", "since", "before"}:
            raise ProblemError(400, f"there is no parameter {name!r}; known: limit, since, before")
    limit = _parameter(request, "limit", int, f"a number from 1 to {MOST_ROWS}")
    limit = 50 if limit is None else limit
    if not 1 <= limit <= MOST_ROWS:
        raise ProblemError(400, f"limit must be a number from 1 to {MOST_ROWS}")
    since = _parameter(request, "since", datetime.fromisoformat, "a time as in 2025-01-31T12:00:00Z")
    if since is not None and since.tzinfo is None:
        since = since.replace(tzinfo=UTC)
    before = _parameter(request, "before", int, "the id of a row")
    if before is not None and not 0 <= before < 1 << 63:
        raise ProblemError(400, "before must be the id of a row")
    return limit, since, before


def _parameter(request: HttpRequest, name: str, convert: Callable[[str], Any], words: str) -> Any:
    text = request.GET.get(name)
    if text is None:
        return None
    try:
        return convert(text)
    except ValueError:
        raise ProblemError(400, f"{name} must be {words}") from None


def _checked(found: dict[str, Any]) -> dict[str, Any]:
    """Return the members that are not null; raise ProblemError 400 for an unknown one or one of another type."""
    for name, value in found.items():
        if name not in FIELDS:
            raise ProblemError(400, f"there is no field {name!r}; known: {', '.join(FIELDS)}")
        if value is None:
            continue
        if not isinstance(value, FIELDS[name]) or (isinstance(value, bool) and bool not in FIELDS[name]):
            raise ProblemError(400, f"{name} must be of type {_WORDS[FIELDS[name][-1]]}")
        if isinstance(value, str) and (len(value) > LONGEST.get(name, 100) or not _is_text(value)):
            raise ProblemError(400, f"{name} must be a text of at most {LONGEST.get(name, 100):,} characters")
    epoch = found.get("expected_epoch")
    if epoch is not None and not 0 <= epoch < 1 << 63:
        raise ProblemError(400, "expected_epoch must be an epoch")
    return {name: value for name, value in found.items() if value is not None}


_WORDS: dict[type, str] = {str: "string", float: "number", bool: "boolean", int: "integer"}


def _is_text(value: str) -> bool:
    """Return whether a text can be stored and shown: no control characters but line breaks, no half characters."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return all(character.isprintable() or character in "\n\t" for character in value)


def _who(client: Client, requested_by: str) -> str:
    """Return the caller for the audit; whom it acts for is what it says itself."""
    if not requested_by:
        return f"api:{client.who}"
    if len(requested_by) > LONGEST["requested_by"] or not requested_by.isprintable():
        raise ProblemError(400, f"X-Requested-By must be one line of at most {LONGEST['requested_by']} characters")
    return f"api:{client.who} for {requested_by}"
