"""The loops that carry requests to the bridges, and show where their services stand."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from lagscaler.bridge.client import BridgeUnreachableError, Done, Move, Outlook, RequestRefusedError, Standing
from lagscaler.controller import requests
from lagscaler.controller.cutover import (
    Known,
    Trouble,
    applied,
    in_sync,
    next_step,
    nothing_asked,
    refused,
    status_of,
    taken,
)
from lagscaler.controller.ports import BridgePort, KubernetesPort, RecorderPort
from lagscaler.controller.requests import Asked
from lagscaler.controller.world import World
from lagscaler.kubernetes.api import KubernetesError
from lagscaler.kubernetes.events import Notice
from lagscaler.kubernetes.kinds import CUTOVERS
from lagscaler.kubernetes.patches import changes
from lagscaler.metrics import Metrics
from lagscaler.resources.conditions import condition_of
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
    moved: set[str] = field(default_factory=set)
    """Services that our own requests moved since the last question how all of them stand."""


@dataclass(slots=True)
class _Track:
    """What is kept of one Cutover between two looks."""

    uid: str
    busy: bool = False
    """Whether its requests are being made."""
    showing: asyncio.Task[None] | None = None
    """What writes the status and tells people, one thing after another, while requests go on."""
    sending: bool = False
    """Whether the status is to have `answer` before there is one."""
    notices: list[Notice] = field(default_factory=list)
    """What is to be told."""
    known: Known | None = None
    """What is to be shown, with `answer`."""
    handed: Mapping[str, Any] | None = None
    """The last answer that was to be shown."""
    answer: Mapping[str, Any] | None = None
    """What the status keeps of requests, whether or not it has it yet."""
    tried: int = 0
    """The generation that `failures`, `retry_at`, `unanswered` and `trouble` are about."""
    unanswered: str = ""
    """What is asked by the request that is tried again."""
    failures: int = 0
    retry_at: float = -math.inf
    trouble: Trouble | None = None
    inquiry: asyncio.Task[None] | None = None
    inquiry_epoch: int = -1
    """The epoch that `inquiry` is about."""
    asked_epoch: int = -1
    """The epoch about which it was asked who led to it, with or without an answer."""
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
            self._forget(key)
            self._metrics.forget_cutover(key.namespace, key.name)
        elif (bridge := self._bridges.get(cutover.bridge)) is not None:
            bridge.wake.set()

    async def follow(self, name: str, port: BridgePort, poll: float) -> None:
        """Serve one bridge until cancelled; `poll`: seconds between two looks."""
        old = self._bridges.get(name)
        bridge = _Bridge(port, poll, old.standings if old else {}, asyncio.Event())
        self._bridges[name] = bridge
        async with asyncio.TaskGroup() as tasks:
            while True:
                bridge.wake.clear()
                try:
                    await self._look(name, bridge)
                except Exception:
                    # A fault of ours: the next look may do better, and other bridges must not suffer.
                    logger.exception("the look at the bridge %s failed", name)
                    bridge.failures += 1
                for cutover in tuple(self._world.cutovers.values()):
                    if cutover.bridge == name and self._stranger(cutover) is None:
                        self._begin(tasks, bridge, cutover)
                pause = _pause(bridge.failures) if bridge.failures else bridge.poll
                try:
                    async with asyncio.timeout(pause):
                        await bridge.wake.wait()
                except TimeoutError:
                    continue

    async def follow_strays(self) -> None:
        """Say of Cutovers whose bridge the settings do not have, or not for them, that it is so, until cancelled."""
        while True:
            for cutover in tuple(self._world.cutovers.values()):
                trouble = self._stranger(cutover)
                if trouble is None or self._world.cutovers.get(cutover.key) is not cutover:
                    continue
                try:
                    await self._show(cutover, self._track(cutover), Known(trouble=trouble))
                except Exception:
                    logger.exception("Cutover %s could not be dealt with", cutover.key)
            await asyncio.sleep(2.0)

    def drop(self, name: str) -> None:
        """Forget a bridge that the settings no longer have."""
        self._bridges.pop(name, None)
        self._metrics.forget_bridge(name)

    def _stranger(self, cutover: Cutover) -> Trouble | None:
        """Return why a Cutover may not ask its bridge for anything; None when it may."""
        name, namespace = cutover.bridge, cutover.key.namespace
        if name not in self._bridges:
            sentence = f"the operator's settings have no bridge {name!r}; correct spec.bridge, or add it there"
        elif not self._world.may_use_bridge(namespace, name):
            sentence = (
                f"the namespace {namespace} may not use the bridge {name!r};"
                f" it may once bridges.{name}.namespaces of the operator's settings names it"
            )
        else:
            return None
        return Trouble("BridgeUnknown", sentence)

    async def _look(self, name: str, bridge: _Bridge) -> None:
        bridge.moved.clear()
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
        # What our own requests were answered meanwhile is newer than this answer may be.
        own = {service: one for service, one in bridge.standings.items() if service in bridge.moved}
        before, bridge.standings = bridge.standings, {**found, **own}
        for service, standing in bridge.standings.items():
            if service not in before or before[service].stage != standing.stage:
                self._moved(name, service)

    def _begin(self, tasks: asyncio.TaskGroup, bridge: _Bridge, cutover: Cutover) -> None:
        """Deal with a Cutover beside all others, so that a slow answer about one holds up no other."""
        track = self._track(cutover)
        if not track.busy:
            track.busy = True
            tasks.create_task(self._take(tasks, bridge, cutover.key, track), name=f"deal with {cutover.key}")

    async def _take(self, tasks: asyncio.TaskGroup, bridge: _Bridge, key: Key, track: _Track) -> None:
        cutover = self._world.cutovers.get(key)
        try:
            if cutover is not None and cutover.uid == track.uid:
                await self._deal(tasks, bridge, cutover, track)
        except Exception:
            # A fault of ours: the next look may do better, and other Cutovers must not suffer.
            logger.exception("Cutover %s could not be dealt with", key)
        finally:
            track.busy = False
        if cutover is not None and self._overtaken(cutover):
            bridge.wake.set()

    def _overtaken(self, cutover: Cutover) -> bool:
        """Return whether a Cutover asks for something else meanwhile."""
        current = self._world.cutovers.get(cutover.key)
        return current is not None and (current.uid, current.generation) != (cutover.uid, cutover.generation)

    async def _deal(self, tasks: asyncio.TaskGroup, bridge: _Bridge, cutover: Cutover, track: _Track) -> None:
        """Send what a Cutover asks for, and show how things stand."""
        if track.answer is not None:
            # The status may not have it yet, if it could not be written.
            cutover = replace(cutover, status={**cutover.status, "request": track.answer})
        elder = self._world.elder_cutover(cutover)
        trouble = bridge.trouble
        if trouble is None and cutover.service not in bridge.standings:
            known = ", ".join(sorted(bridge.standings)) or "none"
            trouble = Trouble(
                "ServiceUnknown", f"the bridge {cutover.bridge} has no service {cutover.service!r}; it has: {known}"
            )
        if elder is not None:
            if requests.asked(cutover):
                track.answer = taken(cutover, elder, self._clock())
        elif trouble is None:
            if await self._request(tasks, bridge, cutover, track):
                bridge.wake.set()
            else:
                self._inquire(tasks, bridge, cutover, track)
                if track.asked_epoch != bridge.standings[cutover.service].epoch and not self._news(cutover, track):
                    # Who moved it is to be said with it.
                    return
            trouble = track.trouble
        track.known = Known(
            standing=bridge.standings.get(cutover.service),
            move=track.move,
            outlook=track.outlook,
            step=track.step,
            trouble=trouble,
            elder=elder,
        )
        track.handed = track.answer
        self._publish(tasks, cutover, track)

    async def _request(self, tasks: asyncio.TaskGroup, bridge: _Bridge, cutover: Cutover, track: _Track) -> bool:
        """Make the requests that the spec asks for, if there are any; return whether one of them was carried out."""
        if track.tried != cutover.generation:
            # What is asked for now is not to wait for what was tried before.
            track.tried, track.failures, track.retry_at = cutover.generation, 0, -math.inf
            track.unanswered, track.trouble = "", None
        if requests.settled(cutover):
            return False
        wanted = requests.asked(cutover)
        if not wanted:
            track.answer = nothing_asked(cutover, self._clock())
            return False
        if self._clock() < track.retry_at and (track.unanswered or wanted[0].action) != "kill":
            return False
        track.answer = requests.with_sent(cutover)
        track.sending = True
        self._publish(tasks, cutover, track)
        made: list[tuple[Asked, Done]] = []
        try:
            for request in wanted:
                body = requests.body_of(cutover, request, first=not made)
                done = await bridge.port.transition(cutover.service, body)
                made.append((request, done))
                self._stand(bridge, cutover, done)
                if not done.repeated:
                    self._count(cutover, track, "Applied")
                if len(made) < len(wanted) and self._overtaken(cutover):
                    # What comes next is compared with what was asked before, and with what was sent of this.
                    sentence = str(applied(cutover, made, self._clock())["message"])
                    track.notices.append(Notice("Normal", "TransitionRequested", sentence))
                    return True
        except RequestRefusedError as error:
            answer = refused(cutover, made, wanted[len(made) :], error, self._clock())
        except BridgeUnreachableError as error:
            # Not at once, whatever was carried out before it.
            self._try_again(bridge, cutover, track, wanted[len(made)], error)
            return False
        else:
            answer = applied(cutover, made, self._clock())
        self._answered(cutover, track, answer)
        return bool(made)

    def _stand(self, bridge: _Bridge, cutover: Cutover, done: Done) -> None:
        """Take in where a request led; one that was carried out before says nothing of now."""
        standing = bridge.standings.get(cutover.service)
        if done.repeated or standing is None:
            return
        after = done.after
        now = replace(standing, stage=after.stage, percent=after.percent, hold=after.hold, epoch=after.epoch)
        bridge.standings = {**bridge.standings, cutover.service: now}
        bridge.moved.add(cutover.service)
        if now.stage != standing.stage:
            self._moved(cutover.bridge, cutover.service)

    def _try_again(
        self, bridge: _Bridge, cutover: Cutover, track: _Track, request: Asked, error: BridgeUnreachableError
    ) -> None:
        track.failures += 1
        track.unanswered = request.action
        pause = _pause(track.failures)
        track.retry_at = self._clock() + pause
        track.trouble = Trouble(error.reason, f"{request.words} is tried again: {error}")
        asyncio.get_running_loop().call_later(pause, bridge.wake.set)
        logger.warning("Cutover %s: %s", cutover.key, track.trouble.message)

    def _count(self, cutover: Cutover, track: _Track, outcome: str) -> None:
        if self._tracks.get(cutover.key) is track:
            # Otherwise it went meanwhile, and its series with it.
            self._metrics.cutover_requests.labels(cutover.key.namespace, cutover.key.name, outcome).inc()

    def _answered(self, cutover: Cutover, track: _Track, answer: Mapping[str, Any]) -> None:
        """Take in what became of the requests of a spec, and tell people."""
        track.answer, track.trouble, track.unanswered, track.sending = answer, None, "", False
        track.outlook_at = -math.inf
        if answer["outcome"] == "Refused":
            self._count(cutover, track, "Refused")
            track.notices.append(Notice("Warning", "TransitionRefused", str(answer["message"])))
        else:
            track.notices.append(Notice("Normal", "TransitionRequested", str(answer["message"])))

    def _publish(self, tasks: asyncio.TaskGroup, cutover: Cutover, track: _Track) -> None:
        """Show and tell what there is, beside the requests: a kill is not to wait for the API server's answer."""
        if track.showing is None or track.showing.done():
            track.showing = tasks.create_task(self._publish_all(cutover, track), name=f"show {cutover.key}")

    async def _publish_all(self, cutover: Cutover, track: _Track) -> None:
        """Show and tell until there is nothing new; one after the other, or the status would forget the newest."""
        try:
            while track.sending or track.notices or track.known is not None:
                if track.sending:
                    track.sending = False
                    await self._remember(cutover, track)
                elif track.notices:
                    await self._tell(cutover, track.notices.pop(0))
                elif track.known is not None:
                    known, track.known = track.known, None
                    await self._show(cutover, track, known)
        except Exception:
            # A fault of ours: the next look may do better, and other Cutovers must not suffer.
            logger.exception("Cutover %s could not be shown", cutover.key)

    async def _remember(self, cutover: Cutover, track: _Track) -> None:
        """Write into the status what is being sent: the process may end before there is an answer."""
        current = self._world.cutovers.get(cutover.key)
        if current is None or current.uid != cutover.uid:
            return
        if patch := changes(current.status, {**current.status, "request": track.answer}):
            await self._write(current, patch)

    def _news(self, cutover: Cutover, track: _Track) -> bool:
        """Return whether what became of the last request is neither in the status nor on its way there."""
        current = self._world.cutovers.get(cutover.key, cutover)
        return track.trouble is not None or track.answer not in (None, track.handed, current.status.get("request"))

    def _inquire(self, tasks: asyncio.TaskGroup, bridge: _Bridge, cutover: Cutover, track: _Track) -> None:
        """Learn what there is to know besides, while requests go on."""
        standing = bridge.standings[cutover.service]
        if track.inquiry is not None and not track.inquiry.done():
            if track.inquiry_epoch == standing.epoch:
                return
            track.inquiry.cancel()
        inquiry = self._ask(bridge, cutover, track, standing)
        track.inquiry = tasks.create_task(inquiry, name=f"ask about {cutover.key}")
        track.inquiry_epoch = standing.epoch

    async def _ask(self, bridge: _Bridge, cutover: Cutover, track: _Track, standing: Standing) -> None:
        """Learn who moved the service last, and what its next step would take."""
        before = (track.outlook, track.step)
        now = self._clock()
        try:
            if track.move is None or track.move.epoch != standing.epoch:
                try:
                    track.move = await bridge.port.last_move(cutover.service)
                finally:
                    if track.asked_epoch != standing.epoch:
                        track.asked_epoch = standing.epoch
                        bridge.wake.set()
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
        except Exception:
            logger.exception("Cutover %s could not be asked about", cutover.key)
        if (track.outlook, track.step) != before:
            bridge.wake.set()

    async def _show(self, cutover: Cutover, track: _Track, known: Known) -> None:
        """Write the status where it says something new, and tell people what happened."""
        current = self._world.cutovers.get(cutover.key)
        if current is None or current.uid != cutover.uid:
            return
        answer = track.answer or current.status.get("request")
        status = status_of(current, answer, known, self._clock())
        self._metrics.cutover_in_sync.labels(current.key.namespace, current.key.name).set(in_sync(status))
        patch = changes(current.status, status)
        if not patch or not await self._write(current, patch):
            return
        for name in ("InSync", "BridgeReachable"):
            new, old = condition_of(status, name), condition_of(current.status, name)
            reason = "OutOfSync" if new.get("reason") == "MovedElsewhere" else str(new.get("reason"))
            told = name != "InSync" or reason == "OutOfSync"
            if told and new.get("status") == "False" and old.get("reason") != new.get("reason"):
                await self._tell(current, Notice("Warning", reason, str(new["message"])))

    async def _write(self, cutover: Cutover, patch: Mapping[str, Any]) -> bool:
        """Change a status; return whether that was possible."""
        try:
            found = await self._kubernetes.patch_status(
                CUTOVERS, cutover.key, cutover.uid, patch, first=not cutover.status
            )
        except KubernetesError as error:
            logger.warning("the status of Cutover %s could not be written: %s", cutover.key, error)
            if error.gone:
                self._world.forget(CUTOVERS, cutover.key, cutover.uid)
            return False
        current = self._world.cutovers.get(cutover.key)
        if current is not None and current.uid == cutover.uid:
            self._world.see(CUTOVERS, None, found)
        return True

    def _track(self, cutover: Cutover) -> _Track:
        """Return what is kept of a Cutover that is known."""
        track = self._tracks.get(cutover.key)
        if track is None or track.uid != cutover.uid:
            self._forget(cutover.key)
            track = self._tracks[cutover.key] = _Track(cutover.uid)
            for outcome in ("Applied", "Refused"):
                # A counter that is born with its first request never rises.
                self._metrics.cutover_requests.labels(cutover.key.namespace, cutover.key.name, outcome)
        return track

    def _forget(self, key: Key) -> None:
        track = self._tracks.pop(key, None)
        if track is not None and track.inquiry is not None:
            track.inquiry.cancel()

    async def _tell(self, cutover: Cutover, notice: Notice) -> None:
        await self._recorder.tell(CUTOVERS, cutover.key, cutover.uid, notice)


def _pause(failures: int) -> float:
    """Return the seconds before what failed so many times is tried again."""
    first, most = BACKOFF
    return min(most, first * 2.0 ** min(failures - 1, 30))
