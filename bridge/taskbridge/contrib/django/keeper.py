"""Lifts the fences of ordered services once nothing is left of their keys on the side that they leave."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from threading import Thread
from typing import TYPE_CHECKING, Any, Protocol

from taskbridge.adapters.celery.leftovers import Leftovers
from taskbridge.adapters.kafka.backlog import Backlog
from taskbridge.contrib.django.fences import exclusive, release_rows
from taskbridge.contrib.django.store import WRITE_LIMIT, DjangoStore, flag
from taskbridge.contrib.django.transition import document, take_turn
from taskbridge.cutover import Fence, Flag
from taskbridge.exceptions import TaskbridgeError
from taskbridge.routing import bucket
from taskbridge.settings import Settings

if TYPE_CHECKING:
    from taskbridge.contrib.django.wiring import Bridge

log = logging.getLogger("taskbridge.relay")

INTERVAL = 0.5
"""Seconds between two looks."""

LOOKS = 2
"""Looks in a row that must find nothing at Celery: between broker and worker a message is in nobody's hands."""

_FENCED = (
    "SELECT service, stage, basis_points, epoch, version, '' AS task, hold, false AS cleared, fence::text"
    " FROM taskbridge_service_flag WHERE fence IS NOT NULL"
)


class CelerySide(Protocol):
    """Celery's broker and workers."""

    def find(self, service: str, mine: Callable[[str], bool]) -> str:
        """Return, in words, what is left of the keys that are `mine`, or an empty string."""
        ...


class KafkaSide(Protocol):
    """A service's topic and its consumer group."""

    def ends(self, service: str) -> Mapping[int, int]:
        """Return the end offset of each partition."""
        ...

    def unfinished(self, service: str, ends: Mapping[int, int]) -> Mapping[int, int]:
        """Return how many records before `ends` are not finished, for each partition where there are some."""
        ...


@dataclass(frozen=True, slots=True)
class Standing:
    """A fence that stands: how many messages wait behind it, and what it waits for, in words."""

    service: str
    fence: Fence
    held: int
    why: str


class FenceKeeper:
    """
    A relay's Keeper.

    Looking takes a second or more, so it is done in a thread, while the relay goes on. Any number of keepers may be at
    it: what one has lifted the others find lifted.
    """

    def __init__(
        self,
        store: DjangoStore,
        settings: Settings,
        kafka: KafkaSide,
        celery: CelerySide,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`clock` returns monotonic seconds."""
        self._store = store
        self._settings = settings
        self._kafka = kafka
        self._celery = celery
        self._clock = clock
        self._looking: Thread | None = None
        self._next_look = float("-inf")
        self._failure: TaskbridgeError | None = None
        self._why: dict[str, str] = {}

    def lift(self) -> None:
        """Begin a look if it is time for one; raise what the last one met."""
        if self._looking is not None and self._looking.is_alive():
            return
        failure, self._failure = self._failure, None
        if self._clock() >= self._next_look:
            self._next_look = self._clock() + INTERVAL
            self._looking = Thread(target=self._look, name="fence-keeper", daemon=True)
            self._looking.start()
        if failure is not None:
            raise failure

    def close(self) -> None:
        """Wait for a look under way."""
        if self._looking is not None:
            self._looking.join()

    def _look(self) -> None:
        try:
            self.look()
        except TaskbridgeError as error:
            self._failure = error

    def look(self) -> list[Standing]:
        """Look once at every fence, lift what can be lifted, and return what stands; raises TaskbridgeError."""
        with self._store.sessions.transaction(WRITE_LIMIT) as cursor:
            flags = self._fenced(cursor)
        standing = []
        for one in flags:
            if one.service not in self._settings.services or one.fence is None:
                continue
            if not one.fence.sides:
                self._take_down(one)
                continue
            why = self._left(one, one.fence)
            if why:
                self._tell(one, why)
                standing.append(Standing(one.service, one.fence, self._held(one.service), why))
            else:
                self._lift(one, one.fence)
        return standing

    def _fenced(self, cursor: Any) -> list[Flag]:
        cursor.execute(f"{_FENCED} ORDER BY service")
        return [flag(*row) for row in cursor.fetchall()]

    def _held(self, service: str) -> int:
        with self._store.sessions.transaction(WRITE_LIMIT) as cursor:
            cursor.execute("SELECT count(*) FROM taskbridge_outbox WHERE service = %s AND road = 'held'", (service,))
            return int(cursor.fetchone()[0])

    def _left(self, one: Flag, fence: Fence) -> str:
        """Return what is left on a side that keys leave, in words, or an empty string."""
        if why := self._with_the_relay(one, fence):
            return why
        if "kafka" in fence.sides and (why := self._on_kafka(one, fence)):
            return why
        if "celery" not in fence.sides:
            return ""
        for _ in range(LOOKS):
            if why := self._celery.find(one.service, lambda key: fence.covers(bucket(self._settings.salt, key))):
                return f"Celery: {why}"
        return ""

    def _with_the_relay(self, one: Flag, fence: Fence) -> str:
        # Rows that a side may have already, and that may go to that side only.
        roads = [road for side in sorted(fence.sides) for road in (side, f"{side}-again")]
        with self._store.sessions.transaction(WRITE_LIMIT) as cursor:
            cursor.execute(
                "SELECT count(*) FROM taskbridge_outbox WHERE service = %s AND road = ANY(%s)", (one.service, roads)
            )
            number = cursor.fetchone()[0]
        return f"{number} in the outbox" if number else ""

    def _on_kafka(self, one: Flag, fence: Fence) -> str:
        if fence.offsets is None:
            # From here on nothing more of these keys can come before the end.
            self._write(one, replace(fence, offsets=self._kafka.ends(one.service)))
            return "Kafka: its ends were read just now"
        left = sum(self._kafka.unfinished(one.service, fence.offsets).values())
        return f"Kafka: {left} not finished" if left else ""

    def _tell(self, one: Flag, why: str) -> None:
        if self._why.get(one.service) != why:
            self._why[one.service] = why
            log.info("keys of %s that change side wait: %s", one.service, why)

    def _lift(self, one: Flag, fence: Fence) -> None:
        self._why.pop(one.service, None)
        lifted = self._write(one, replace(fence, sides=frozenset()), "nothing is left of its keys where they were")
        if lifted:
            log.info("keys of %s have changed side", one.service)

    def _take_down(self, one: Flag) -> None:
        """End a fence that was lifted once the messages behind it are gone; until then, others queue behind them."""
        with self._store.sessions.transaction(WRITE_LIMIT) as cursor:
            cursor.execute("SELECT EXISTS (SELECT FROM taskbridge_outbox WHERE service = %s)", (one.service,))
            waiting = cursor.fetchone()[0]
        if not waiting:
            self._write(one, None, "the messages that waited are sent")

    def _write(self, one: Flag, fence: Fence | None, why: str = "") -> bool:
        """
        Change the fence of a flag that nobody has moved; return whether that was so.

        With `why` every process learns of it, and the audit.
        """
        with self._store.sessions.transaction(WRITE_LIMIT) as cursor:
            exclusive(cursor, one.service, self._settings)
            take_turn(cursor)
            cursor.execute(f"{_FENCED} AND service = %s", (one.service,))
            row = cursor.fetchone()
            if row is None or flag(*row) != one:
                return False
            if fence is not None and not fence.sides:
                if not release_rows(cursor, one.service) and not self._any_rows(cursor, one.service):
                    fence = None
            elif fence is None and self._any_rows(cursor, one.service):
                return False
            after = replace(one, fence=fence)
            if why:
                after = self._record(cursor, one, after, why)
            cursor.execute(
                "UPDATE taskbridge_service_flag SET fence = %s::jsonb, version = %s WHERE service = %s",
                (json.dumps(fence.document()) if fence else None, after.version, one.service),
            )
        return True

    def _any_rows(self, cursor: Any, service: str) -> bool:
        cursor.execute("SELECT EXISTS (SELECT FROM taskbridge_outbox WHERE service = %s)", (service,))
        return bool(cursor.fetchone()[0])

    def _record(self, cursor: Any, before: Flag, after: Flag, why: str) -> Flag:
        cursor.execute("SELECT nextval(pg_get_serial_sequence('taskbridge_transition', 'id'))")
        after = replace(after, version=cursor.fetchone()[0])
        cursor.execute(
            "INSERT INTO taskbridge_transition"
            " (id, service, task, action, override, request_id, at, who, why, before, after)"
            " VALUES (%s, %s, '', 'lift', false, '', now(), 'relay', %s, %s::jsonb, %s::jsonb)",
            (after.version, after.service, why, json.dumps(document(before)), json.dumps(document(after))),
        )
        return after


def standing(store: DjangoStore) -> dict[str, tuple[Fence, int]]:
    """Return, by service, the fences that stand and how many messages wait behind each; raise StoreUnavailable."""
    with store.sessions.transaction(WRITE_LIMIT) as cursor:
        cursor.execute(
            "SELECT f.service, f.fence::text, count(o.id) FILTER (WHERE o.road = 'held')"
            " FROM taskbridge_service_flag AS f LEFT JOIN taskbridge_outbox AS o ON o.service = f.service"
            " WHERE f.fence IS NOT NULL GROUP BY f.service, f.fence::text"
        )
        return {service: (Fence.from_document(json.loads(text)), held) for service, text, held in cursor.fetchall()}


def keepers(bridge: Bridge) -> list[FenceKeeper]:
    """Return what keeps the fences of a bridge's services: nothing where none is ordered."""
    if not any(service.ordered for service in bridge.settings.services.values()):
        return []
    bridge.app.loader.import_default_modules()
    kafka, celery = Backlog(bridge.settings), Leftovers(bridge.app, bridge.settings)
    return [FenceKeeper(bridge.store, bridge.settings, kafka, celery)]
