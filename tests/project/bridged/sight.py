"""What a task saw, in full, in a form that JSON can hold and that two runs can be compared by."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from celery import Task
from celery.app.task import Context

from bridged import journal
from taskbridge import current_side

PLAIN = (str, int, float, bool, type(None))

_UUID = re.compile(r"(?!0{8}-)[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_TIME = re.compile(r"20(?:2[5-9]|3\d)-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?")
_PROCESS = re.compile(r"\bgen\d+@")

HIDDEN = {
    # The name of the worker that ran it.
    "hostname": None,
    # Redis has no properties beside those that kombu writes into its messages for itself. A message without a
    # priority has 0 there; in a record it has none.
    "properties": ("delivery_tag", "body_encoding", "priority"),
    "delivery_info": ("priority",),
}
"""What of a request differs by side, and may: an attribute, or some entries of one."""


def mark_in(value: Any) -> str | None:
    """Return the first text that begins with `@`, in arguments or in what stands in them."""
    if isinstance(value, str):
        return value if value.startswith("@") else None
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return next((found for one in value if (found := mark_in(one))), None)
    return None


def typed(value: Any) -> Any:
    """Return a value with the type of everything in it that is not JSON's own."""
    if type(value) in PLAIN:
        return value
    if type(value) is list:
        return [typed(one) for one in value]
    if type(value) is dict:
        return {key if type(key) is str else f"{type(key).__name__}:{key!r}": typed(one) for key, one in value.items()}
    name = type(value).__name__
    if isinstance(value, Context):
        return {name: value.id}
    if isinstance(value, Mapping):
        return {name: {key: typed(one) for key, one in value.items()}}
    if isinstance(value, list | tuple):
        return {name: [typed(one) for one in value]}
    return {name: repr(value)}


def request_in_full(request: Context) -> dict[str, Any]:
    """Return every attribute that the request of a running task has, but for what may differ by side."""
    found = {}
    for name in dir(request):
        value = getattr(request, name)
        if name.startswith("_") or callable(value):
            continue
        hidden = HIDDEN.get(name, ())
        if hidden is None:
            continue
        if hidden and isinstance(value, dict):
            value = {key: one for key, one in value.items() if key not in hidden}
            if "expiration" in value:
                # How long the message is from its expiry, in milliseconds, when it is sent.
                value["expiration"] = f"about {int(value['expiration']):.2e}"
        found[name] = typed(value)
    return found


def keep(task: Task, args: Iterable[Any], kwargs: Mapping[str, Any]) -> None:
    """Write down what a running task sees, under the mark in its arguments."""
    request = task.request
    mark = mark_in([list(args), dict(kwargs)]) or "@unmarked"
    sight = {
        "task": task.name,
        "args": typed(tuple(args)),
        "kwargs": typed(dict(kwargs)),
        "request": request_in_full(request),
        "before its eta": _too_early(request.eta),
    }
    journal.client().rpush(_list_of(mark), json.dumps({"side": current_side(), "id": request.id, "sight": sight}))


def _too_early(eta: Any) -> bool:
    if not isinstance(eta, str):
        return False
    moment = datetime.fromisoformat(eta)
    return datetime.now(UTC) < (moment if moment.tzinfo else moment.replace(tzinfo=UTC))


def _list_of(mark: str) -> str:
    return f"{journal.PREFIX}:saw:{mark}"


def forget(marks: Iterable[str]) -> None:
    """Forget what was seen in an earlier run."""
    journal.client().delete(*map(_list_of, marks))


def count(mark: str) -> int:
    """Return how many tasks with this mark have run."""
    return int(journal.client().llen(_list_of(mark)))


def read(mark: str) -> list[dict[str, Any]]:
    """Return what the tasks with this mark saw, in the order in which they ran."""
    return [json.loads(line) for line in journal.client().lrange(_list_of(mark), 0, -1)]


def comparable(kept: Iterable[dict[str, Any]], outcome: Any) -> dict[str, Any]:
    """
    Return what was seen, and what came of it, without what differs from run to run.

    An id becomes the name of the task that ran under it, so that lineage stays comparable; a time its form.
    """
    kept = list(kept)
    names: dict[str, str] = {}
    for one in sorted(kept, key=lambda one: json.dumps(_anonymous(one["sight"], {}), sort_keys=True)):
        sight = one["sight"]
        what = re.sub(r"[^\w@ ]+", " ", json.dumps(_anonymous([sight["args"], sight["kwargs"]], {}))).strip()
        names.setdefault(one["id"], f"<{sight['task']} {what}>")
    sights = [_anonymous(one["sight"], names) for one in kept]
    sights.sort(key=lambda sight: json.dumps(sight, sort_keys=True))
    return {"saw": sights, "outcome": _anonymous(outcome, names)}


def _anonymous(value: Any, names: Mapping[str, str]) -> Any:
    text = _UUID.sub(lambda found: names.get(found[0], "<id>"), json.dumps(value))
    return json.loads(_PROCESS.sub("gen<pid>@", _TIME.sub("<time>", text)))
