"""The one way by which a flag changes: compare-and-set, with its audit row in the same transaction."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC
from typing import Any

from taskbridge.contrib.django import fences, rules
from taskbridge.contrib.django.rules import Request, Standing
from taskbridge.contrib.django.store import FLAGS, DjangoStore, flag
from taskbridge.cutover import Flag, Stage
from taskbridge.exceptions import TransitionOvertaken
from taskbridge.ports import Assessment
from taskbridge.settings import Settings

LIMIT = 5.0
"""Seconds for one statement of a transition, and for its turn."""

LOCK = 0x7461736B
"""Class of PostgreSQL's advisory locks that the bridge uses; the relay uses the numbers after it."""


@dataclass(frozen=True, slots=True)
class Change:
    """
    What a transition did; `before` and `after` are the same when there was nothing to do.

    `version` is the id of its audit row, 0 when there is none. `repeated` says that it was done when the same request
    came for the first time.
    """

    before: Flag
    after: Flag
    version: int = 0
    repeated: bool = False
    cleared: tuple[str, ...] = ()
    """Tasks that lost their own stage with it."""

    @property
    def happened(self) -> bool:
        """Whether a flag was changed."""
        return self.after.version != self.before.version or bool(self.cleared)


def read_standing(store: DjangoStore, settings: Settings, service: str) -> Standing:
    """Return how a service stands, `off` if it was never moved; raise TransitionRefused when it is unknown."""
    rules.check(Request(service=service, action="release", who=""), settings)
    with store.sessions.transaction(LIMIT) as cursor:
        return standing(cursor, service)


def standing(cursor: Any, service: str) -> Standing:
    """Return how a service stands, as the cursor's transaction sees it."""
    cursor.execute(FLAGS.format("service = %s"), (service, service))
    found = [(flag(*row[:-1]), row[-1]) for row in cursor.fetchall()]
    own, changed_at = next(((one, at) for one, at in found if not one.task), (Flag(service, Stage.OFF), None))
    tasks = {one.task: one for one, _ in found if one.task}
    held: dict[str, str] = {}
    if any(one.hold for one, _ in found):
        cursor.execute(
            "SELECT DISTINCT ON (task) task, who, at FROM taskbridge_transition"
            " WHERE service = %s AND action = 'hold' ORDER BY task, id DESC",
            (service,),
        )
        held = {task: f" by {who} since {at.astimezone(UTC):%Y-%m-%d %H:%M} UTC" for task, who, at in cursor.fetchall()}
    return Standing(own, changed_at, tasks, held)


def take_turn(cursor: Any) -> None:
    """
    Wait until no other transition is going on; the turn lasts until the transaction ends.

    So versions become visible in their order, and whoever asks for flags above the last version he saw never misses
    one. Whoever also takes an ordered service's own lock takes that one first.
    """
    cursor.execute("SELECT pg_advisory_xact_lock(%s, 0)", (LOCK,))


def transition(store: DjangoStore, settings: Settings, request: Request, verdict: Assessment | None = None) -> Change:
    """
    Carry a request out, or refuse it, by the rules of the flags themselves and by the verdict.

    Changes nothing when the flag is there already. Raises TransitionRefused when a rule stands against it,
    TransitionOvertaken when the flag is not in the expected epoch, StoreUnavailable when the database cannot be used.
    """
    rules.check(request, settings)
    ordered = settings.services[request.service].ordered
    with store.sessions.transaction(LIMIT) as cursor:
        if ordered:
            fences.exclusive(cursor, request.service, settings)
        cursor.execute(f"SET LOCAL lock_timeout = {round(LIMIT * 1000 / 2)}")
        take_turn(cursor)
        if request.request_id and (earlier := _earlier(cursor, request)):
            return earlier
        now = standing(cursor, request.service)
        before = now.of(request.task)
        rules.check_epoch(request, before)
        after = rules.aim(request, now)
        against = [
            one
            for one in rules.conditions(request, now, after, verdict)
            if not one.ok and not (one.overridable and request.override)
        ]
        if against:
            raise rules.refusal(request, before, after, against)
        if ordered:
            fences.check_ready(cursor, before, after, settings.flag_stale_after)
            after = _fenced(cursor, before, after)
        return _write_all(cursor, request, verdict, now, before, after)


def _write_all(
    cursor: Any, request: Request, verdict: Assessment | None, now: Standing, before: Flag, after: Flag
) -> Change:
    cleared = now.pinned() if request.action == "kill" else {}
    version = 0
    if after != before:
        after = _next(cursor, after)
        version = after.version
        record(cursor, before, after, request, verdict)
        _save(cursor, after)
    elif request.request_id:
        # Nothing to do is an answer too: should the same request come again, when the flag is elsewhere, it must not
        # be carried out then.
        version = _version(cursor)
        record(cursor, before, before, request, verdict, version)
    for task, own in cleared.items():
        gone = _next(cursor, replace(own, stage=Stage.OFF, basis_points=0, hold=False, cleared=True))
        record(cursor, own, gone, replace(request, task=task, request_id=""), verdict)
        _save(cursor, gone)
    return Change(before, after, version, cleared=tuple(sorted(cleared)))


def record(
    cursor: Any,
    before: Flag,
    after: Flag,
    request: Request,
    verdict: Assessment | None = None,
    version: int | None = None,
) -> None:
    """Write the audit row of one change, under the version of the flag after it unless another one is given."""
    cursor.execute(
        "INSERT INTO taskbridge_transition (id, service, task, action, override, verdict, request_id, at, who, why,"
        " before, after) VALUES (%s, %s, %s, %s, %s, %s::jsonb, %s, now(), %s, %s, %s::jsonb, %s::jsonb)",
        (
            after.version if version is None else version,
            after.service,
            after.task,
            request.action,
            request.override,
            json.dumps(verdict.document()) if verdict else None,
            request.request_id,
            request.who,
            request.why,
            json.dumps(document(before)),
            json.dumps(document(after)),
        ),
    )


def document(state: Flag) -> dict[str, Any]:
    """Return a flag as the audit holds it."""
    found: dict[str, Any] = {
        "stage": str(state.stage),
        "basis_points": state.basis_points,
        "epoch": state.epoch,
        "version": state.version,
        "hold": state.hold,
    }
    if state.task:
        found["cleared"] = state.cleared
    if state.fence:
        found["fence"] = state.fence.document()
    return found


def from_document(service: str, task: str, found: Mapping[str, Any]) -> Flag:
    """Return the flag that the audit holds; its fence, which is of its time, is left out."""
    return Flag(
        service,
        Stage(found["stage"]),
        found["basis_points"],
        found["epoch"],
        found["version"],
        task,
        found.get("hold", False),
        found.get("cleared", False),
    )


def answered(store: DjangoStore, request: Request) -> Change | None:
    """
    Return what a request did when it came for the first time, None when it is new or has no id.

    Raises TransitionOvertaken when its id belongs to another request.
    """
    if not request.request_id:
        return None
    with store.sessions.transaction(LIMIT) as cursor:
        return _earlier(cursor, request)


def _earlier(cursor: Any, request: Request) -> Change | None:
    cursor.execute(
        "SELECT id, action, task, before, after FROM taskbridge_transition WHERE service = %s AND request_id = %s",
        (request.service, request.request_id),
    )
    row = cursor.fetchone()
    if row is None:
        return None
    version, action, task = row[:3]
    before, after = (
        from_document(request.service, task, one if isinstance(one, dict) else json.loads(one)) for one in row[3:]
    )
    same = (action, task) == (request.action, request.task)
    if request.stage is not None:
        same = same and (after.stage, after.basis_points) == (request.stage, request.basis_points)
    if not same:
        raise TransitionOvertaken(
            f"the request id {request.request_id!r} belongs to another request of {request.service}, a {action} to "
            f"{rules.words(after)}: give each request an id of its own"
        )
    return Change(before, after, version, repeated=True)


def _fenced(cursor: Any, before: Flag, after: Flag) -> Flag:
    if fences.on_kafka(before) == fences.on_kafka(after):
        return after
    fences.hold_rows(cursor, after.service)
    return replace(after, fence=fences.after_move(before, after))


def _version(cursor: Any) -> int:
    cursor.execute("SELECT nextval(pg_get_serial_sequence('taskbridge_transition', 'id'))")
    return int(cursor.fetchone()[0])


def _next(cursor: Any, after: Flag) -> Flag:
    return replace(after, epoch=after.epoch + 1, version=_version(cursor))


def _save(cursor: Any, after: Flag) -> None:
    values: dict[str, Any] = {
        "service": after.service,
        "stage": str(after.stage),
        "basis_points": after.basis_points,
        "epoch": after.epoch,
        "version": after.version,
        "hold": after.hold,
    }
    if after.task:
        table, key, extra = "taskbridge_task_flag", "service, task", {"task": after.task, "cleared": after.cleared}
    else:
        fence = json.dumps(after.fence.document()) if after.fence else None
        table, key, extra = "taskbridge_service_flag", "service", {"fence": fence}
    values |= extra
    names = ", ".join(values)
    places = ", ".join(["%s"] * len(values))
    changes = ", ".join(f"{name} = excluded.{name}" for name in (*values, "changed_at") if name not in key.split(", "))
    cursor.execute(
        f"INSERT INTO {table} ({names}, changed_at) VALUES ({places}, now())"  # noqa: S608
        f" ON CONFLICT ({key}) DO UPDATE SET {changes}",
        tuple(values.values()),
    )
