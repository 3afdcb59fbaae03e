"""The one way by which a service changes its stage."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from taskbridge.contrib.django.store import FLAGS, DjangoStore, flag
from taskbridge.cutover import BASIS_POINTS, PERCENTAGES, Flag, Stage, check_step, is_forward
from taskbridge.exceptions import TransitionRefused
from taskbridge.settings import Settings

LIMIT = 5.0
"""Seconds for one statement of a transition, and for its turn."""

LOCK = 0x7461736B
"""Class of PostgreSQL's advisory locks that the bridge uses; the relay uses the numbers after it."""

Objections = Callable[[], Sequence[str]]
"""Returns what speaks against going live, one sentence each."""


@dataclass(frozen=True, slots=True)
class Change:
    """What a transition did; `before` and `after` are the same when there was nothing to do."""

    before: Flag
    after: Flag

    @property
    def happened(self) -> bool:
        """Whether the flag was changed."""
        return self.after.version != self.before.version


def read_flag(store: DjangoStore, settings: Settings, service: str) -> Flag:
    """Return a service's flag as it stands, `off` if it was never moved; raise TransitionRefused when unknown."""
    _known(settings, service)
    state = store.flag_states().get(service)
    return state.flag if state else Flag(service, Stage.OFF)


def plan(before: Flag, stage: Stage, basis_points: int, objections: Objections | None = None) -> bool:
    """
    Return whether there is anything to change.

    Raises TransitionRefused when the service may not go there; `objections` is asked only on the way to `live`.
    """
    if (before.stage, before.basis_points) == (stage, basis_points):
        return False
    highest = BASIS_POINTS if stage in PERCENTAGES else 0
    lowest = 1 if stage in PERCENTAGES else 0
    if not lowest <= basis_points <= highest:
        raise TransitionRefused(f"{basis_points} basis points do not go with {stage}: give {lowest} to {highest}")
    check_step(before, stage, basis_points, override=True)
    live = stage is Stage.LIVE and is_forward(before, stage, basis_points)
    if live and objections is not None and (found := objections()):
        raise TransitionRefused(f"{before.service} cannot go live: {'; '.join(found)}")
    return True


def transition(
    store: DjangoStore,
    settings: Settings,
    service: str,
    stage: Stage,
    basis_points: int,
    *,
    who: str,
    why: str = "",
    expected_epoch: int | None = None,
    objections: Objections | None = None,
) -> Change:
    """
    Move a service to a stage, compare-and-set, with its audit row in the same transaction.

    The service must still be in `expected_epoch` (default: the epoch in which its rules were checked). Changes nothing
    when the service is there already. Raises TransitionRefused when a rule, an objection or somebody else's transition
    stands against it, StoreUnavailable when the database cannot be used.
    """
    before = read_flag(store, settings, service)
    if expected_epoch is not None and before.epoch != expected_epoch:
        raise _overtaken(before, expected_epoch)
    if not plan(before, stage, basis_points, objections):
        return Change(before, before)
    with store.sessions.transaction(LIMIT) as cursor:
        cursor.execute(f"SET LOCAL lock_timeout = {round(LIMIT * 1000 / 2)}")
        # Held until the commit is visible. So versions become visible in their order, and whoever asks for flags above
        # the last version he saw can never miss one.
        cursor.execute("SELECT pg_advisory_xact_lock(%s, 0)", (LOCK,))
        cursor.execute(FLAGS.format("service = %s"), (service, service))
        current = next((flag(*row[:-1]) for row in cursor.fetchall() if not row[5]), Flag(service, Stage.OFF))
        if current != before:
            raise _overtaken(current, before.epoch)
        after = _write(cursor, before, stage, basis_points, who, why)
    return Change(before, after)


def _write(cursor: Any, before: Flag, stage: Stage, basis_points: int, who: str, why: str) -> Flag:
    cursor.execute("SELECT nextval(pg_get_serial_sequence('taskbridge_transition', 'id'))")
    version = cursor.fetchone()[0]
    after = replace(before, stage=stage, basis_points=basis_points, epoch=before.epoch + 1, version=version)
    cursor.execute(
        "INSERT INTO taskbridge_transition (id, service, at, who, why, before, after)"
        " VALUES (%s, %s, now(), %s, %s, %s::jsonb, %s::jsonb)",
        (version, after.service, who, why, _document(before), _document(after)),
    )
    cursor.execute(
        "INSERT INTO taskbridge_service_flag (service, stage, basis_points, epoch, version, changed_at)"
        " VALUES (%s, %s, %s, %s, %s, now()) ON CONFLICT (service) DO UPDATE SET stage = excluded.stage,"
        " basis_points = excluded.basis_points, epoch = excluded.epoch, version = excluded.version,"
        " changed_at = excluded.changed_at",
        (after.service, str(stage), basis_points, after.epoch, version),
    )
    return after


def _document(state: Flag) -> str:
    document = {"stage": state.stage, "basis_points": state.basis_points, "epoch": state.epoch}
    return json.dumps(document | {"version": state.version, "hold": state.hold})


def _known(settings: Settings, service: str) -> None:
    if service not in settings.services:
        raise TransitionRefused(
            f"there is no service {service!r}; TASKBRIDGE names: {', '.join(sorted(settings.services))}"
        )


def _overtaken(now: Flag, expected_epoch: int) -> TransitionRefused:
    return TransitionRefused(
        f"{now.service} was moved meanwhile: it is {now.stage} in epoch {now.epoch}, not in epoch {expected_epoch}; "
        f"look at `taskbridge status {now.service}` and repeat"
    )
