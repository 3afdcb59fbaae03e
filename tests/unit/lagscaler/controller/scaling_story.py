"""An operator that scales one Deployment, with all around it in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from lagscaler.controller.scaling import Scaling
from lagscaler.controller.world import World
from lagscaler.kubernetes.kinds import AUTOSCALERS, CONSUMERS, DEPLOYMENTS
from lagscaler.metrics import Metrics
from lagscaler.resources.conditions import condition_of
from tests.unit.lagscaler.builders import consumer_body, deployment_body
from tests.unit.lagscaler.fakes import SETTINGS, Clock, FakeKubernetes, FakeRecorder, FakeSampler, until

FAST: dict[str, Any] = {
    "scaling": {"pollSeconds": 1}, "capacity": {"perReplica": 100, "windowSeconds": 30},
    "rebalance": {"maxPerHour": 1000, "scaleDownAfterSeconds": 1, "cooldownSeconds": 1},
}  # fmt: skip


class Stage:
    """One operator with all around it."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.kubernetes = FakeKubernetes()
        self.recorder = FakeRecorder()
        self.sampler = FakeSampler(self.clock)
        self.metrics = Metrics("1")
        self.stage: str | None = None
        self.scaling: Scaling
        self.start()

    def start(self) -> None:
        """Make a new operator, that knows what an API server knows and nothing else."""
        world = World(lambda kind, key: self.scaling.changed(key) if kind == CONSUMERS else None)
        world.settings = SETTINGS
        self.world = self.kubernetes.world = world
        self.scaling = Scaling(world, self.kubernetes, self.recorder, self.metrics, lambda *_: self.stage, self.clock)
        self.scaling.samplers["main"] = self.sampler
        for kind in (DEPLOYMENTS, AUTOSCALERS, CONSUMERS):
            for (name, _), body in list(self.kubernetes.bodies.items()):
                if name == kind.name:
                    world.see(kind, None, body)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Let the loops run."""
        task = asyncio.create_task(self.scaling.run())
        try:
            yield
            assert not task.done(), task.result()
        finally:
            task.cancel()
            await asyncio.wait({task})

    def status(self, name: str = "orders") -> dict[str, Any]:
        """Return a KafkaConsumer's status."""
        return self.kubernetes.status(CONSUMERS, name)

    def condition(self, condition: str, name: str = "orders") -> tuple[str, str]:
        """Return status and reason of a condition."""
        found = condition_of(self.status(name), condition)
        return found.get("status", ""), found.get("reason", "")

    def sampled(self) -> int:
        """Return how often Kafka was looked at."""
        return len(self.sampler.asked)

    async def polls(self, count: int) -> None:
        """Wait for so many more looks at Kafka, and what follows from them."""
        enough = self.sampled() + count
        await until(lambda: self.sampled() >= enough, f"{count} looks")

    async def turns(self, seconds: float) -> None:
        """Wait until the operator has gone on for so long by its own clock, whether it looks at Kafka or not."""
        enough = self.clock() + seconds
        await until(lambda: self.scaling.alive_at >= enough, "the operator goes on")


def story(play: Callable[[Stage], Awaitable[None]], replicas: int = 1, **spec: Any) -> None:
    """Play a story with one KafkaConsumer, `orders`, on a Deployment, `worker`."""

    async def whole() -> None:
        one = Stage()
        one.kubernetes.put(DEPLOYMENTS, deployment_body(replicas))
        one.kubernetes.put(CONSUMERS, consumer_body(**{**FAST, **spec}))
        async with one.running():
            await play(one)

    asyncio.run(whole())
