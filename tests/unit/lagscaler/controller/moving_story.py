"""An operator that moves services, with all around it in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from lagscaler.bridge.client import BridgeUnreachableError
from lagscaler.controller.moving import Moving
from lagscaler.controller.world import World
from lagscaler.kubernetes.kinds import CUTOVERS
from lagscaler.metrics import Metrics
from lagscaler.resources.conditions import condition_of
from tests.unit.lagscaler.builders import cutover_body
from tests.unit.lagscaler.fakes import SETTINGS, Clock, FakeBridge, FakeKubernetes, FakeRecorder, until

AWAY = BridgeUnreachableError("BridgeUnreachable", "the bridge main does not answer")
"""What a bridge that does not answer raises."""


class Stage:
    """One operator with all around it."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.kubernetes = FakeKubernetes()
        self.recorder = FakeRecorder()
        self.bridge = FakeBridge()
        self.metrics = Metrics("1")
        self.seen: list[tuple[str, str]] = []
        self.moving: Moving
        self.start()

    def start(self) -> None:
        """Make a new operator, that knows what an API server knows and nothing else."""
        world = World(lambda _, key: self.moving.changed(key))
        world.settings = SETTINGS
        self.kubernetes.world = world
        self.moving = Moving(
            world, self.kubernetes, self.recorder, self.metrics, self.clock, lambda *which: self.seen.append(which)
        )
        for body in list(self.kubernetes.bodies.values()):
            world.see(CUTOVERS, None, body)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Let the loops run."""
        tasks = {
            asyncio.create_task(self.moving.follow("main", self.bridge, 0.05)),
            asyncio.create_task(self.moving.follow_strays()),
        }
        try:
            yield
            for task in tasks:
                assert not task.done(), task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    def asked(self) -> list[str]:
        """Return the actions that the bridge was asked for."""
        return [str(move["action"]) for move in self.bridge.moves]

    def counted(self, outcome: str, name: str = "orders") -> float | None:
        """Return how many requests of a Cutover had an outcome; None when there is no such series."""
        labels = {"namespace": "shop", "name": name, "outcome": outcome}
        return self.metrics.registry.get_sample_value("lagscaler_cutover_requests_total", labels)

    def status(self, name: str = "orders") -> dict[str, Any]:
        """Return a Cutover's status."""
        return self.kubernetes.status(CUTOVERS, name)

    async def looked(self) -> None:
        """Wait until the bridge was looked at three more times, and what followed from two of them is over."""
        looks = self.bridge.looks
        await until(lambda: self.bridge.looks >= looks + 3, "the bridge is looked at again")

    async def wait(self, condition: str, reason: str, name: str = "orders") -> dict[str, Any]:
        """Return a condition as soon as it has a reason."""

        def found() -> Any:
            one = condition_of(self.status(name), condition)
            return one if one.get("reason") == reason else None

        return dict(await until(found, f"{condition} is {reason}"))


def story(play: Callable[[Stage], Awaitable[None]], **spec: Any) -> None:
    """Play a story with one Cutover, `orders`."""

    async def whole() -> None:
        one = Stage()
        one.kubernetes.put(CUTOVERS, cutover_body(**spec))
        async with one.running():
            await play(one)

    asyncio.run(whole())
