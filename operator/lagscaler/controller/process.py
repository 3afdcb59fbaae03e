"""The operator as one process: everything put together, and its life from start to SIGTERM."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from pathlib import Path
from typing import Any

from aiohttp import web

from lagscaler import __version__
from lagscaler.bridge.client import BridgeClient
from lagscaler.controller.moving import Moving
from lagscaler.controller.scaling import Scaling
from lagscaler.controller.web import application
from lagscaler.controller.world import World, uid_of
from lagscaler.kafka.sampler import Sampler
from lagscaler.kubernetes.api import KubernetesApi, KubernetesError
from lagscaler.kubernetes.events import Recorder
from lagscaler.kubernetes.kinds import CONSUMERS, OWN, SCALED_OBJECTS, Kind, watched
from lagscaler.kubernetes.watch import watch
from lagscaler.metrics import Metrics
from lagscaler.resources.reading import Key, key_of
from lagscaler.settings import BridgeSettings, Settings, SettingsError, parse_settings, read_text

logger = logging.getLogger(__name__)

RESYNC = 300.0
"""Seconds between two lists of everything: what went while a watch was broken is not told by the next one."""

SETTINGS_EVERY = 2.0
"""Seconds between two looks at the settings file."""

BACKOFF = (1.0, 30.0)
"""Seconds before the first repetition of what failed, and at most."""

FAREWELL = 10.0
"""Seconds that the end may take: kopf closes its watches, and writes under way are finished or given up."""


class Operator:
    """The process; `path` names the settings file."""

    def __init__(self, path: Path, host: str, port: int) -> None:
        """Raise SettingsError when the file cannot be used; later changes that cannot be used are logged and left."""
        self._path = path
        self._address = (host, port)
        self._text: str | None = read_text(path)
        """The last one that was looked at; None after the file could not be read."""
        self._settings = parse_settings(self._text, str(path))
        self._metrics = Metrics(__version__)
        self._world = World(self._changed)
        self._api = KubernetesApi(self._count)
        recorder = Recorder(self._api, time.time)
        self._moving = Moving(self._world, self._api, recorder, self._metrics, time.time, self._moved)
        self._scaling = Scaling(self._world, self._api, recorder, self._metrics, self._moving.stage_of, time.time)
        self._samplers: dict[str, Sampler] = {}
        self._followers: dict[str, tuple[BridgeSettings, asyncio.Task[None]]] = {}
        self._kinds: tuple[Kind, ...] = ()
        self._stop = asyncio.Event()
        self._rewatch = asyncio.Event()
        self._watching = False
        self._background: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Work until SIGTERM or SIGINT. Raises KubernetesError when there are no credentials for the Kubernetes API."""
        self._listen()
        async with self._api:
            site = await self._serve()
            work = asyncio.create_task(self._work(), name="work")
            stopped = asyncio.create_task(self._stop.wait(), name="stop")
            try:
                await asyncio.wait({work, stopped}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                stopped.cancel()
                work.cancel()
                await asyncio.wait({work}, timeout=FAREWELL)
                await site.cleanup()
                await asyncio.gather(*(sampler.close() for sampler in self._samplers.values()))
            if work.done() and not work.cancelled() and (error := work.exception()) is not None:
                raise error
        logger.info("ended")

    async def _work(self) -> None:
        self._apply(Settings(), self._settings)
        await self._first_sync()
        async with asyncio.TaskGroup() as tasks:
            loops = (self._moving.follow_strays(), self._watch(), self._resync(), self._follow_settings())
            for one in (self._scaling.run(), *loops):
                tasks.create_task(one)

    async def _serve(self) -> web.AppRunner:
        runner = web.AppRunner(
            application(self._scaling, self._metrics, self._not_ready, time.time), access_log=None, handle_signals=False
        )
        await runner.setup()
        site = web.TCPSite(runner, *self._address)
        await site.start()
        return runner

    def _not_ready(self) -> str:
        if not self._kinds:
            return "the resources were not listed yet: see the log"
        return "" if self._watching else "the resources are not watched yet"

    # Kubernetes

    async def _first_sync(self) -> None:
        failures = 0
        while not await self._sync():
            failures += 1
            # Nothing can be due before the resources are known.
            await self._beat(_pause(failures))

    async def _beat(self, seconds: float) -> None:
        """Wait, and be alive meanwhile."""
        until = time.time() + seconds
        while (left := until - time.time()) > 0:
            self._scaling.alive_at = time.time()
            await asyncio.sleep(min(1.0, left))

    async def _sync(self) -> bool:
        """List everything; return whether that was possible."""
        try:
            return await self._list()
        except Exception:
            # A fault of ours: the next list may do better.
            logger.exception("what was listed could not be taken in")
            return False

    async def _list(self) -> bool:
        kinds = []
        for kind in watched(scaled_objects=self._settings.scaled_objects):
            before = self._world.known(kind)
            try:
                found = [
                    body
                    for namespace in self._settings.namespaces or (None,)
                    for body in await self._api.every(kind, namespace)
                ]
            except KubernetesError as error:
                if kind == SCALED_OBJECTS and error.status == 404:
                    continue
                hint = "; install the CRDs of charts/operator" if kind in OWN and error.status == 404 else ""
                logger.warning("%ss cannot be listed: %s%s", kind.name, error, hint)
                return False
            there = {key_of(body): uid_of(body) for body in found}
            for key, uid in before.items():
                if there.get(key) != uid:
                    self._world.forget(kind, key, uid)
            for body in found:
                self._world.see(kind, None, body)
            self._metrics.resources.labels(kind.name).set(len(found))
            kinds.append(kind)
        for kind in watched(scaled_objects=True):
            if kind not in kinds:
                self._leave(kind)
        if tuple(kinds) != self._kinds:
            self._kinds = tuple(kinds)
            self._rewatch.set()
        for name, sampler in self._samplers.items():
            sampler.keep([one.group for one in self._world.consumers.values() if one.cluster == name])
        return True

    def _leave(self, kind: Kind) -> None:
        """Forget a kind that is not looked at any more: its resources would hold on to their Deployments for ever."""
        for key, uid in self._world.known(kind).items():
            self._world.forget(kind, key, uid)
        if kind in self._kinds:
            self._metrics.resources.labels(kind.name).set(0)

    async def _resync(self) -> None:
        while True:
            await asyncio.sleep(RESYNC)
            await self._sync()

    async def _watch(self) -> None:
        """Watch until the operator ends; anew when what is to be watched changes, or when the watch broke."""
        failures = 0
        while not self._stop.is_set():
            self._rewatch.clear()
            begun = asyncio.Event()
            follower = asyncio.create_task(self._begun(begun))
            began = time.monotonic()
            try:
                await watch(self._kinds, self._settings.namespaces, self._world.see, self._rewatch, begun)
                if not self._rewatch.is_set():
                    self._stop.set()
                failures = 0
            except Exception:
                # Whatever ends it: without a watch the operator would act on what is no more.
                logger.exception("the watch of the Kubernetes API broke and begins anew")
                failures = failures + 1 if time.monotonic() - began < BACKOFF[1] else 1
                await asyncio.sleep(_pause(failures))
                await self._sync()
            finally:
                self._watching = False
                follower.cancel()
                self._listen()

    async def _begun(self, begun: asyncio.Event) -> None:
        await begun.wait()
        # In place of kopf's, of which a second signal would be an error.
        self._listen()
        self._watching = True
        logger.info(
            "watching %s", "all namespaces" if not self._settings.namespaces else ", ".join(self._settings.namespaces)
        )

    def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)

    def _changed(self, kind: Kind, key: Key) -> None:
        if kind == CONSUMERS:
            self._scaling.changed(key)
        else:
            self._moving.changed(key)

    def _moved(self, bridge: str, service: str) -> None:
        for consumer in tuple(self._world.consumers.values()):
            if (consumer.bridge, consumer.service) == (bridge, service):
                self._scaling.changed(consumer.key)

    def _count(self, verb: str, resource: str, status: int) -> None:
        self._metrics.kubernetes_requests.labels(verb, resource, str(status)).inc()

    # Settings

    async def _follow_settings(self) -> None:
        while True:
            await asyncio.sleep(SETTINGS_EVERY)
            before, self._text = self._text, None
            try:
                self._text = read_text(self._path)
                if self._text == before:
                    continue
                new = parse_settings(self._text, str(self._path))
            except SettingsError as error:
                if (before, self._text) != (None, None):
                    logger.error("the settings stay as they were: %s", error)  # noqa: TRY400 - the sentence has it all
                self._metrics.settings_valid.set(0)
                continue
            old, self._settings = self._settings, new
            if old != new:
                logger.info("the settings of %s changed", self._path)
            self._apply(old, new)
            if (old.namespaces, old.scaled_objects) != (new.namespaces, new.scaled_objects):
                for kind in self._kinds:
                    for key, uid in self._world.known(kind).items():
                        if new.namespaces and key.namespace not in new.namespaces:
                            self._world.forget(kind, key, uid)
                self._rewatch.set()
                await self._sync()

    def _apply(self, old: Settings, new: Settings) -> None:
        """Bring samplers and bridges in line with new settings."""
        self._world.settings = new
        for name in {*old.clusters, *new.clusters}:
            if old.clusters.get(name) == new.clusters.get(name):
                continue
            if (gone := self._samplers.pop(name, None)) is not None:
                self._scaling.samplers.pop(name, None)
                self._later(gone.close())
            if (cluster := new.clusters.get(name)) is not None:
                self._scaling.samplers[name] = self._samplers[name] = Sampler(cluster)
        for name in {*old.bridges, *new.bridges}:
            if old.bridges.get(name) == new.bridges.get(name):
                continue
            if (follower := self._followers.pop(name, None)) is not None:
                follower[1].cancel()
            if name not in new.bridges:
                # Of one that is only reached otherwise, what is known of its services still holds.
                self._moving.drop(name)
            if (bridge := new.bridges.get(name)) is not None:
                self._followers[name] = (bridge, asyncio.create_task(self._follow(bridge), name=f"bridge {name}"))
        self._metrics.settings_valid.set(1)
        for key in tuple(self._world.consumers):
            self._scaling.changed(key)

    async def _follow(self, settings: BridgeSettings) -> None:
        while True:
            try:
                async with BridgeClient(settings) as client:
                    await self._moving.follow(settings.name, client, settings.poll)
            except Exception:
                # A fault of ours: without this nobody would carry a request, a kill included, until a restart.
                logger.exception("the bridge %s is not followed any more, and is from the beginning", settings.name)
                await asyncio.sleep(BACKOFF[0])

    def _later(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)


def _pause(failures: int) -> float:
    first, most = BACKOFF
    return min(most, first * 2.0 ** min(failures - 1, 30))
