"""The loops that carry requests to the bridges, and show where their services stand."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from lagscaler.bridge.client import BridgeUnreachableError, Done, Move, Outlook, RequestRefusedError, Standing
from lagscaler.controller import requests
from lagscaler.controller.cutover import Known, Trouble, applied, in_sync, next_step, nothing_asked, refused, status_of
from lagscaler.controller.ports import BridgePort, KubernetesPort, RecorderPort
from lagscaler.controller.world import World
from lagscaler.kubernetes.api import KubernetesError
from lagscaler.kubernetes.events import Notice
from lagscaler.kubernetes.kinds import CUTOVERS
from lagscaler.metrics import Metrics
from lagscaler.resources.conditions import condition_of, merge_patch
from lagscaler.resources.cutover import Cutover, step_words
from lagscaler.resources.reading import Key

logger = logging.getLogger(__name__)

BACKOFF = (1.0, 30.0)
"""Seconds before the first repetition of what failed, and at most; each is twice the one before."""

OUTLOOK_EVERY = 60.0
"""Seconds between two questions for the next step of a service: the bridge asks Kafka and Celery for the answer."""


@dataclass(slots=True)
class _Bridge:
    """One bridge as it was last seen."""

    port: BridgePort
    poll: float
    standings: Mapping[str, Standing]
    wake: asyncio.Event
    trouble: Trouble | None = None
    failures: int = 0


@dataclass(slots=True)
class _Track:
    """What is kept of one Cutover between two looks."""

    uid: str
    answer: Mapping[str, Any] | None = None
    """What became of the last request, whether or not the status has it yet."""
    failures: int = 0
    retry_at: float = -math.inf
    trouble: Trouble | None = None
    move: Move | None = None
    outlook: Outlook | None = None
    step: str = ""
    outlook_at: float = -math.inf
    outlook_epoch: int = -1


class Moving:
    """All Cutovers of one process. `clock` returns seconds since the epoch."""

    def __init__(
        self,
        world: World,
        kubernetes: KubernetesPort,
        recorder: RecorderPort,
        metrics: Metrics,
        clock: Callable[[], float],
        moved: Callable[[str, str], None],
    ) -> None:
        """`moved` is called with bridge and service when a stage is seen that is another than before."""
        self._world = world
        self._kubernetes = kubernetes
        self._recorder = recorder
        self._metrics = metrics
        self._clock = clock
        self._moved = moved
        self._bridges: dict[str, _Bridge] = {}
        self._tracks: dict[Key, _Track] = {}

    def stage_of(self, bridge: str, service: str) -> str | None:
        """Return the stage of a service as it was last seen; None when it never was."""
        found = self._bridges[bridge].standings.get(service) if bridge in self._bridges else None
        return found.stage if found else None

    def changed(self, key: Key) -> None:
        """Deal with a Cutover as soon as may be: it changed, or went."""
        cutover = self._world.cutovers.get(key)
        if cutover is None:
            self._tracks.pop(key, None)
            self._metrics.forget_cutover(key.namespace, key.name)
        elif (bridge := self._bridges.get(cutover.bridge)) is not None:
            bridge.wake.set()

    async def follow(self, name: str, port: BridgePort, poll: float) -> None:
        """Serve one bridge until cancelled; `poll`: seconds between two looks."""
        old = self._bridges.get(name)
        bridge = _Bridge(port, poll, old.standings if old else {}, asyncio.Event())
        self._bridges[name] = bridge
        while True:
            bridge.wake.clear()
            try:
                await self._round(name, bridge)
            except Exception:
                # A fault of ours: the next round may do better, and other bridges must not suffer.
                logger.exception("the round of the bridge %s failed", name)
                bridge.failures += 1
            pause = _pause(bridge.failures) if bridge.failures else bridge.poll
            try:
                async with asyncio.timeout(pause):
                    await bridge.wake.wait()
            except TimeoutError:
                continue

    async def follow_strays(self) -> None:
        """Say of Cutovers whose bridge the settings do not have that it is so, until cancelled."""
        while True:
            for cutover in tuple(self._world.cutovers.values()):
                if cutover.bridge not in self._bridges:
                    sentence = (
                        f"the operator's settings have no bridge {cutover.bridge!r};"
                        " correct spec.bridge, or add it there"
                    )
                    await self._show(cutover, self._track(cutover), Known(trouble=Trouble("BridgeUnknown", sentence)))
            await asyncio.sleep(2.0)

    def drop(self, name: str) -> None:
        """Forget a bridge that the settings no longer have."""
        self._bridges.pop(name, None)

    async def _round(self, name: str, bridge: _Bridge) -> None:
        await self._look(name, bridge)
        mine = [one for one in self._world.cutovers.values() if one.bridge == name]
        done = await asyncio.gather(*(self._deal(bridge, cutover) for cutover in mine))
        if any(done):
            await self._look(name, bridge)
            await asyncio.gather(*(self._deal(bridge, one) for one in mine if one.key in self._world.cutovers))

    async def _look(self, name: str, bridge: _Bridge) -> None:
        try:
            found = await bridge.port.standings()
        except BridgeUnreachableError as error:
            bridge.failures += 1
            if bridge.trouble is None:
                logger.warning("%s", error)
            bridge.trouble = Trouble(error.reason, str(error))
            self._metrics.bridge_up.labels(name).set(0)
            return
        self._metrics.bridge_up.labels(name).set(1)
        bridge.failures, bridge.trouble = 0, None
        before, bridge.standings = bridge.standings, found
        for service, standing in found.items():
            if service not in before or before[service].stage != standing.stage:
                self._moved(name, service)

    async def _deal(self, bridge: _Bridge, stale: Cutover) -> bool:
        """Send what a Cutover asks for, and show how things stand; return whether the service may have moved."""
        cutover = self._world.cutovers.get(stale.key)
        if cutover is None:
            return False
        track = self._track(cutover)
        if track.answer is not None:
            # The status may not have it yet, if it could not be written.
            cutover = replace(cutover, status={**cutover.status, "request": track.answer})
        elder = self._world.elder_cutover(cutover)
        standing = bridge.standings.get(cutover.service)
        trouble = bridge.trouble
        if trouble is None and standing is None:
            known = ", ".join(sorted(bridge.standings)) or "none"
            trouble = Trouble(
                "ServiceUnknown", f"the bridge {cutover.bridge} has no service {cutover.service!r}; it has: {known}"
            )
        moved = False
        if elder is None and trouble is None and standing is not None:
            done = await self._request(bridge, cutover, track)
            moved, trouble = done is not None, track.trouble
            if done is None:
                await self._inquire(bridge, cutover, track, standing)
            elif not done.repeated:
                after = done.after
                standing = replace(
                    standing, stage=after.stage, percent=after.percent, hold=after.hold, epoch=after.epoch
                )
                bridge.standings = {**bridge.standings, cutover.service: standing}
        known_now = Known(
            standing=standing,
            move=track.move,
            outlook=track.outlook,
            step=track.step,
            trouble=trouble,
            elder=elder,
        )
        await self._show(cutover, track, known_now)
        return moved

    async def _request(self, bridge: _Bridge, cutover: Cutover, track: _Track) -> Done | None:
        """Make the request that the spec asks for, if there is one; return what came of it, if it was carried out."""
        now = self._clock()
        if (track.answer or {}).get("generation") == cutover.generation or requests.settled(cutover):
            track.trouble = None
            return None
        if (request := requests.asked(cutover)) is None:
            track.answer = nothing_asked(cutover, now)
            return None
        if now < track.retry_at:
            return None
        try:
            done = await bridge.port.transition(cutover.service, requests.body_of(cutover, request))
        except RequestRefusedError as error:
            track.answer = refused(cutover, request, error, self._clock())
            self._answered(cutover, track, "Refused")
            await self._tell(cutover, Notice("Warning", "TransitionRefused", str(track.answer["message"])))
            return None
        except BridgeUnreachableError as error:
            track.failures += 1
            track.retry_at = self._clock() + _pause(track.failures)
            track.trouble = Trouble(error.reason, f"{request.words} is tried again: {error}")
            bridge.failures = max(bridge.failures, 1)
            logger.warning("Cutover %s: %s", cutover.key, track.trouble.message)
            return None
        track.answer = applied(cutover, request, done, self._clock())
        self._answered(cutover, track, "Applied")
        await self._tell(cutover, Notice("Normal", "TransitionRequested", str(track.answer["message"])))
        return done

    def _answered(self, cutover: Cutover, track: _Track, outcome: str) -> None:
        track.failures, track.retry_at, track.trouble = 0, -math.inf, None
        track.outlook_at = -math.inf
        self._metrics.cutover_requests.labels(cutover.key.namespace, cutover.key.name, outcome).inc()

    async def _inquire(self, bridge: _Bridge, cutover: Cutover, track: _Track, standing: Standing) -> None:
        """Learn who moved the service last, and what its next step would take."""
        now = self._clock()
        try:
            if track.move is None or track.move.epoch != standing.epoch:
                track.move = await bridge.port.last_move(cutover.service)
            step = next_step(standing)
            if step is None:
                track.outlook = None
            elif now - track.outlook_at >= OUTLOOK_EVERY or track.outlook_epoch != standing.epoch:
                track.outlook_at, track.outlook_epoch = now, standing.epoch
                track.outlook = await bridge.port.outlook(cutover.service, *step)
                track.step = step_words(*step)
        except RequestRefusedError as error:
            track.outlook = Outlook(allowed=False, missing=(str(error),), verdict=None, sentence="")
            track.step = step_words(*(next_step(standing) or (None, None)))
        except BridgeUnreachableError as error:
            logger.info("Cutover %s: %s", cutover.key, error)

    async def _show(self, cutover: Cutover, track: _Track, known: Known) -> None:
        """Write the status where it says something new, and tell people what happened."""
        current = self._world.cutovers.get(cutover.key)
        if current is None or current.uid != cutover.uid:
            return
        answer = track.answer or current.status.get("request")
        status = status_of(current, answer, known, self._clock())
        self._metrics.cutover_in_sync.labels(current.key.namespace, current.key.name).set(in_sync(status))
        patch = merge_patch(current.status, status)
        if not patch:
            return
        try:
            found = await self._kubernetes.patch_status(CUTOVERS, current.key, current.uid, patch)
        except KubernetesError as error:
            logger.warning("the status of Cutover %s could not be written: %s", current.key, error)
            if error.gone:
                self._world.forget(CUTOVERS, current.key)
            return
        for name in ("InSync", "BridgeReachable"):
            new, old = condition_of(status, name), condition_of(current.status, name)
            reason = "OutOfSync" if new.get("reason") == "MovedElsewhere" else str(new.get("reason"))
            told = name != "InSync" or reason == "OutOfSync"
            if told and new.get("status") == "False" and old.get("reason") != new.get("reason"):
                await self._tell(current, Notice("Warning", reason, str(new["message"])))
        self._world.see(CUTOVERS, None, found)

    def _track(self, cutover: Cutover) -> _Track:
        track = self._tracks.get(cutover.key)
        if track is None or track.uid != cutover.uid:
            track = self._tracks[cutover.key] = _Track(cutover.uid)
        return track

    async def _tell(self, cutover: Cutover, notice: Notice) -> None:
        await self._recorder.tell(CUTOVERS, cutover.key, cutover.uid, notice)


def _pause(failures: int) -> float:
    """Return the seconds before what failed so many times is tried again."""
    first, most = BACKOFF
    return min(most, first * 2.0 ** (failures - 1))
