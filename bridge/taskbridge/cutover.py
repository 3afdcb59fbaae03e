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
from typing import Any, NamedTuple

from taskbridge.exceptions import StoreUnavailable, TransitionRefused
from taskbridge.ports import FlagStore

BASIS_POINTS = 10_000


class Stage(StrEnum):
    """How far a service has moved."""

    OFF = "off"
    MIRROR = "mirror"
    SHADOW = "shadow"
    LIVE = "live"
    COMPLETE = "complete"

    @classmethod
    def parse(cls, text: str) -> Stage:
        """Return the stage called `text`; raise TransitionRefused that lists the stages."""
        try:
            return cls(text)
        except ValueError:
            raise TransitionRefused(f"there is no stage {text!r}; stages are {', '.join(cls)}") from None


@dataclass(frozen=True, slots=True)
class Fence:
    """
    Keys of an ordered service that change side, and the sides that must be empty before they may go on.

    Messages whose bucket is from `low` up to, not including, `high` are held back. `sides` are those that such keys
    were on: `celery`, `kafka` or both. `offsets` are Kafka's end offsets by partition, once nothing more of these keys
    can come before them; None until they are read.
    """

    low: int
    high: int
    sides: frozenset[str]
    offsets: Mapping[int, int] | None = None

    def covers(self, bucket: int) -> bool:
        """Return whether messages of keys in `bucket` are held back."""
        return self.low <= bucket < self.high

    def document(self) -> dict[str, Any]:
        """Return the fence as JSON types."""
        offsets = None if self.offsets is None else {str(number): offset for number, offset in self.offsets.items()}
        return {"low": self.low, "high": self.high, "sides": sorted(self.sides), "offsets": offsets}

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Fence:
        """Return the fence that `document` was made of."""
        offsets = document["offsets"]
        return cls(
            document["low"],
            document["high"],
            frozenset(document["sides"]),
            None if offsets is None else {int(number): offset for number, offset in offsets.items()},
        )


@dataclass(frozen=True, slots=True)
class Flag:
    """
    The stage of one service, or of a single task of it, which then takes precedence.

    `basis_points` of keys (10,000 = all) go to Kafka in `live`, and are marked for a sandbox in `shadow`. `epoch`
    grows by one with every transition of this flag; `version` grows with every transition of any, and orders them all.
    `task` is empty in a service's flag. `hold` freezes promotion. A `cleared` task flag has no say any more.
    """

    service: str
    stage: Stage
    basis_points: int = 0
    epoch: int = 0
    version: int = 0
    task: str = ""
    hold: bool = False
    cleared: bool = False
    fence: Fence | None = None


class Decision(NamedTuple):
    """
    Where one message goes, and whether a copy goes to the shadow topic.

    `sandbox` says that the copy's key is among those that are marked for a sandbox; nothing executes them yet.
    """

    kafka: bool
    copy: bool
    sandbox: bool = False


def decide(flag: Flag, bucket: int) -> Decision:
    """
    Return where a message goes whose key falls into `bucket` (0 to 9,999).

    Raising the percentage only ever adds keys to Kafka's side.
    """
    match flag.stage:
        case Stage.COMPLETE:
            return Decision(kafka=True, copy=False)
        case Stage.LIVE:
            return Decision(kafka=bucket < flag.basis_points, copy=False)
        case Stage.SHADOW:
            return Decision(kafka=False, copy=True, sandbox=bucket < flag.basis_points)
        case Stage.MIRROR:
            return Decision(kafka=False, copy=True)
        case Stage.OFF:
            return Decision(kafka=False, copy=False)


PERCENTAGES = frozenset({Stage.SHADOW, Stage.LIVE})
"""Stages that apply to a percentage of the keys."""

RUNGS = (100, 500, 2_500, 5_000, 10_000)
"""Basis points at which a service rests on its way forward: 1, 5, 25, 50 and 100 %."""


def target(stage: Stage, percent: float | None) -> int:
    """
    Return the basis points of a transition to `stage`.

    Raises TransitionRefused unless a percentage between 0.01 and 100 comes with `shadow` and `live`, and none with
    another stage.
    """
    if stage not in PERCENTAGES:
        if percent is not None:
            raise TransitionRefused(f"a percentage belongs to shadow and live; {stage} always means every message")
        return 0
    if percent is None:
        raise TransitionRefused(f"{stage} needs --percent between 0.01 and 100, for example --percent 1")
    # Written so that NaN does not pass.
    if not 0.01 <= percent <= 100:
        raise TransitionRefused(f"{percent:g} is not a percentage between 0.01 and 100")
    return round(percent * 100)


def is_forward(before: Flag, stage: Stage, basis_points: int) -> bool:
    """Return whether a transition goes further than the flag is: such a one has conditions, all others have none."""
    stages = list(Stage)
    return (stages.index(stage), basis_points) > (stages.index(before.stage), before.basis_points)


def next_steps(before: Flag) -> list[tuple[Stage, int]]:
    """
    Return where the flag may go forward from where it is, nearest first: each a stage with its basis points.

    One stage or one rung at a time. `shadow` may be passed over, since not every task can be run in a sandbox.
    """
    steps: list[tuple[Stage, int]] = []
    match before.stage:
        case Stage.OFF:
            steps = [(Stage.MIRROR, 0)]
        case Stage.MIRROR:
            steps = [(Stage.SHADOW, RUNGS[0]), (Stage.LIVE, RUNGS[0])]
        case Stage.SHADOW:
            steps = [(Stage.SHADOW, rung) for rung in RUNGS if rung > before.basis_points][:1]
            steps.append((Stage.LIVE, RUNGS[0]))
        case Stage.LIVE:
            steps = [(Stage.LIVE, rung) for rung in RUNGS if rung > before.basis_points][:1]
            if before.basis_points == BASIS_POINTS:
                steps.append((Stage.COMPLETE, 0))
        case Stage.COMPLETE:
            pass
    return steps


def check_step(before: Flag, stage: Stage, basis_points: int, *, override: bool = False) -> None:
    """
    Raise TransitionRefused unless a flag may go from `before` to `stage` with `basis_points`.

    Back is always allowed, at once. Forward goes one stage and at most one rung at a time; `override` lifts the rungs,
    and lets live begin beyond the first one. What was never mirrored does not go live, and what is not live in full is
    never complete: those two nothing lifts.
    """
    if not is_forward(before, stage, basis_points):
        return
    steps = next_steps(before)
    if stage not in PERCENTAGES:
        allowed = stage in {step[0] for step in steps}
    else:
        furthest = max((points for at, points in steps if at is stage), default=None)
        allowed = furthest is not None and (override or basis_points <= furthest)
    if allowed:
        return
    near = " or ".join(_step_words(*step) for step in steps) or "nowhere: it is complete"
    name = before.task or before.service
    lift = "; --override with a --reason goes further at once" if stage in {at for at, _ in steps} else ""
    raise TransitionRefused(
        f"{name} is {_step_words(before.stage, before.basis_points)} and cannot go to "
        f"{_step_words(stage, basis_points)} at once: next is {near}{lift}"
    )


def _step_words(stage: Stage, basis_points: int) -> str:
    return f"{stage} {basis_points / 100:g}%" if stage in PERCENTAGES else str(stage)


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
            service: Flag(service, stage, BASIS_POINTS if stage in PERCENTAGES else 0)
            for service, stage in floors.items()
        }
        self._clock = clock
        self._max_age = max_age
        self._stale_after = stale_after
        self._flags: dict[str, Flag] = {}
        self._task_flags: dict[str, dict[str, Flag]] = {}
        self._version = -1
        self._next_look = float("-inf")
        self._last_read = float("-inf")
        self._lock = threading.Lock()
        self._lock_owner = os.getpid()
        self.failures = 0

    def get(self, service: str, task: str = "") -> Flag:
        """
        Return the flag of `task`, if it has one, else of `service`.

        Returns the service's floor when its flag was never set or the flags cannot be read for too long.
        """
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
        if task and service in self._task_flags and (flag := self._task_flags[service].get(task)):
            return flag
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
            if not flag.task:
                self._flags[flag.service] = flag
            elif flag.cleared:
                self._task_flags.get(flag.service, {}).pop(flag.task, None)
            else:
                self._task_flags.setdefault(flag.service, {})[flag.task] = flag
            self._version = max(self._version, flag.version)
