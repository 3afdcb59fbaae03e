"""Kubernetes events: what `kubectl describe` shows of the operator's doings, without repeating itself."""

from __future__ import annotations

import hashlib
import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from lagscaler.kubernetes.api import KubernetesError
from lagscaler.kubernetes.kinds import Kind
from lagscaler.resources.reading import Key, time_text

logger = logging.getLogger(__name__)

COMPONENT = "lagscaler"
"""Who says it."""

AGAIN = 3600.0
"""Seconds within which the same event is counted up; the API server forgets events after an hour."""

KEPT = 5_000
"""Events that are remembered for that."""

LONGEST = 1_000
"""Characters of a note; the API server takes 1,024."""


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that is told about a resource."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


class EventsApi(Protocol):
    """The part of the Kubernetes API that events need."""

    async def create_event(self, namespace: str, event: dict[str, Any]) -> dict[str, Any]:
        """Create one."""
        ...

    async def patch_event(self, namespace: str, name: str, patch: dict[str, Any]) -> dict[str, Any]:
        """Merge into one."""
        ...


class Recorder:
    """Tells notices as events; what cannot be told is logged and dropped, because nothing may wait for it."""

    def __init__(self, api: EventsApi, clock: Callable[[], float]) -> None:
        """`clock` returns seconds since the epoch."""
        self._api = api
        self._clock = clock
        self._told: OrderedDict[tuple[str, Notice], tuple[str, int, float]] = OrderedDict()

    async def tell(self, kind: Kind, key: Key, uid: str, notice: Notice) -> None:
        """Tell a notice about one resource."""
        level = logging.WARNING if notice.type == "Warning" else logging.INFO
        logger.log(level, "%s %s: %s: %s", kind.name, key, notice.reason, notice.message)
        now = self._clock()
        name, count, last = self._told.pop((uid, notice), ("", 0, 0.0))
        try:
            if name and now - last < AGAIN:
                await self._api.patch_event(key.namespace, name, {"count": count + 1, "lastTimestamp": time_text(now)})
            else:
                name, count = _name(key, uid, notice, now), 0
                await self._api.create_event(key.namespace, _event(name, kind, key, uid, notice, now))
        except KubernetesError as error:
            logger.warning("the event %s about %s could not be written: %s", notice.reason, key, error)
            return
        self._told[(uid, notice)] = (name, count + 1, now)
        while len(self._told) > KEPT:
            self._told.popitem(last=False)


def _name(key: Key, uid: str, notice: Notice, now: float) -> str:
    text = f"{uid}/{notice.reason}/{notice.message}/{now}"
    # The names of other kinds may be as long as an event's.
    return f"{key.name[:200]}.{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _event(name: str, kind: Kind, key: Key, uid: str, notice: Notice, now: float) -> dict[str, Any]:
    message = notice.message if len(notice.message) <= LONGEST else notice.message[: LONGEST - 1] + "…"
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": key.namespace},
        "involvedObject": {
            "apiVersion": kind.api_version,
            "kind": kind.name,
            "namespace": key.namespace,
            "name": key.name,
            "uid": uid,
        },
        "type": notice.type,
        "reason": notice.reason,
        "message": message,
        "source": {"component": COMPONENT},
        "reportingComponent": COMPONENT,
        "firstTimestamp": time_text(now),
        "lastTimestamp": time_text(now),
        "count": 1,
    }
