"""What the operator answers over HTTP."""

from __future__ import annotations

import asyncio
import json

from aiohttp import ClientSession, web

from lagscaler.controller.scaling import Scaling
from lagscaler.controller.web import application
from lagscaler.controller.world import World
from lagscaler.kubernetes.kinds import CONSUMERS, DEPLOYMENTS
from lagscaler.metrics import Metrics
from lagscaler.policy.document import parse_sample, parse_spec, parse_state
from tests.unit.lagscaler.builders import consumer_body, deployment_body
from tests.unit.lagscaler.fakes import Clock, FakeKubernetes, FakeRecorder, FakeSampler, until


def test_health_readiness_metrics_and_histories() -> None:
    async def whole() -> None:
        clock, metrics, kubernetes = Clock(), Metrics("1"), FakeKubernetes()
        late: list[float] = [0.0]
        kubernetes.world = World(lambda *_: None)
        scaling = Scaling(kubernetes.world, kubernetes, FakeRecorder(), metrics, lambda *_: None, clock)
        scaling.samplers["main"] = FakeSampler(clock)
        kubernetes.put(DEPLOYMENTS, deployment_body(1))
        kubernetes.put(CONSUMERS, consumer_body(scaling={"pollSeconds": 1}))
        missing = ["the resources were not listed yet"]
        runner = web.AppRunner(
            application(scaling, metrics, lambda: missing[0] if missing else "", lambda: clock() + late[0])
        )
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        base = f"http://127.0.0.1:{runner.addresses[0][1]}"
        loops = asyncio.create_task(scaling.run())

        async with ClientSession() as session:

            async def get(path: str) -> tuple[int, str]:
                async with session.get(base + path) as answer:
                    return answer.status, await answer.text()

            assert await get("/readyz") == (503, "the resources were not listed yet\n")
            missing.clear()
            assert await get("/readyz") == (200, "ok\n")
            late[0] = 60.0
            status, said = await get("/healthz")
            assert status == 503
            assert said.startswith("nothing was looked at for ")
            assert 'lagscaler_build_info{version="1"} 1.0' in (await get("/metrics"))[1]
            assert (await get("/consumers/shop/nobody/history"))[0] == 404
            await until(lambda: "lag" in kubernetes.status(CONSUMERS, "orders"), "a look")
            found = json.loads((await get("/consumers/shop/orders/history"))[1])
            assert parse_spec(found["spec"]).poll == 1
            assert parse_sample(found["history"][0]).complete
            assert parse_state(found["state"]).replicas == 1
        loops.cancel()
        await asyncio.wait({loops})
        await runner.cleanup()

    asyncio.run(whole())
