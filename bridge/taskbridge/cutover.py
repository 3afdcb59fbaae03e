"""
Stages, flags, and what a flag decides for one message.

A flag is a row of the database; it alone is authority. It is read through a cache that is at most a second old and that
is refreshed when a dispatch looks, so that there is no thread to lose in a fork.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from taskbridge.exceptions import StoreUnavailable, TransitionRefused
from taskbridge.ports import FlagStore

BASIS_POINTS = 10_000


class Stage(StrEnum):
    """How far a service has moved."""

    OFF = "off"
    MIRROR = "mirror"
    LIVE = "live"

    @classmethod
    def parse(cls, text: str) -> Stage:
        """Return the stage called `text`; raise TransitionRefused that lists the stages."""
        try:
            return cls(text)
        except ValueError:
            raise TransitionRefused(f"there is no stage {text!r}; stages are {', '.join(cls)}") from None


@dataclass(frozen=True, slots=True)
class Flag:
    """
    The stage of one service.

    `basis_points` of keys (10,000 = all) go to Kafka in `live`. `epoch` grows by one with every transition of the
    service; `version` grows with every transition of any, and orders them all.
    """

    service: str
    stage: Stage
    basis_points: int = 0
    epoch: int = 0
    version: int = 0


class Decision(NamedTuple):
    """Where one message goes, and whether a copy goes to the shadow topic."""

    kafka: bool
    copy: bool


def decide(flag: Flag, bucket: int) -> Decision:
    """
    Return where a message goes whose key falls into `bucket` (0 to 9,999).

    Raising the percentage only ever adds keys to Kafka's side.
    """
    if flag.stage is Stage.LIVE:
        return Decision(kafka=bucket < flag.basis_points, copy=False)
    return Decision(kafka=False, copy=flag.stage is Stage.MIRROR)


def target(stage: Stage, percent: float | None) -> int:
    """
    Return the basis points of a transition to `stage`.

    Raises TransitionRefused unless a percentage between 0.01 and 100 comes with `live`, and none with another stage.
    """
    if stage is not Stage.LIVE:
        if percent is not None:
            raise TransitionRefused(f"a percentage belongs to live only; {stage} always means every message")
        return 0
    if percent is None:
        raise TransitionRefused("live needs --percent between 0.01 and 100, for example --percent 10")
    # Written so that NaN does not pass.
    if not 0.01 <= percent <= 100:
        raise TransitionRefused(f"{percent:g} is not a percentage between 0.01 and 100")
    return round(percent * 100)


def is_forward(before: Flag, stage: Stage, basis_points: int) -> bool:
    """Return whether a transition gives Kafka more than it has: such a one has conditions, all others have none."""
    stages = list(Stage)
    return (stages.index(stage), basis_points) > (stages.index(before.stage), before.basis_points)


def check_step(before: Flag, stage: Stage) -> None:
    """
    Raise TransitionRefused unless a service may go from `before` to `stage`.

    Back is always allowed, at once. Forward goes one stage at a time: what was never mirrored does not go live.
    """
    stages = list(Stage)
    if stages.index(stage) > stages.index(before.stage) + 1:
        between = stages[stages.index(before.stage) + 1]
        raise TransitionRefused(
            f"{before.service} is {before.stage} and cannot go {stage} at once: "
            f"mirror it first with `taskbridge cutover {before.service} {between}`"
        )


class FlagCache:
    """
    Flags of one process.

    Only flags whose version is new are read, at most once per `max_age` seconds. While the store fails, the last flags
    hold for `stale_after` seconds, then every service is at its floor. Safe after fork: the store reconnects.
    """

    def __init__(
        self,
        store: FlagStore,
        floors: Mapping[str, Stage],
        clock: Callable[[], float],
        max_age: float = 1.0,
        stale_after: float = 10.0,
    ) -> None:
        """`clock` returns monotonic seconds; `floors` holds a stage for every service."""
        self._store = store
        self._floors = {
            service: Flag(service, stage, BASIS_POINTS if stage is Stage.LIVE else 0)
            for service, stage in floors.items()
        }
        self._clock = clock
        self._max_age = max_age
        self._stale_after = stale_after
        self._flags: dict[str, Flag] = {}
        self._version = -1
        self._next_look = float("-inf")
        self._last_read = float("-inf")
        self._lock = threading.Lock()
        self._lock_owner = os.getpid()
        self.failures = 0

    def get(self, service: str) -> Flag:
        """Return the flag of `service`, or its floor when it was never set or cannot be read for too long."""
        now = self._clock()
        if now >= self._next_look:
            # While one thread looks, the others go on with what is known, unless that is too old to go by.
            lock = self._own_lock()
            if lock.acquire(blocking=now - self._last_read > self._stale_after):
                try:
                    if now >= self._next_look:
                        self._refresh(now)
                finally:
                    lock.release()
        if now - self._last_read > self._stale_after:
            return self._floors[service]
        return self._flags.get(service) or self._floors[service]

    def _own_lock(self) -> threading.Lock:
        pid = os.getpid()
        if self._lock_owner != pid:
            # A lock that another thread of the parent held at the fork would never be released here.
            self._lock_owner, self._lock = pid, threading.Lock()
        return self._lock

    def _refresh(self, now: float) -> None:
        try:
            changed = self._store.flags_since(self._version)
        except StoreUnavailable:
            self.failures += 1
            # A store that hangs costs its own time limit: look again only after as long as the look itself took.
            self._next_look = self._clock() + self._max_age
            return
        self._next_look = now + self._max_age
        self._last_read = now
        for flag in changed:
            self._flags[flag.service] = flag
            self._version = max(self._version, flag.version)
