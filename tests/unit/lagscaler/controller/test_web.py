"""What the operator answers over HTTP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import make_mocked_request

from lagscaler.controller.scaling import Scaling
from lagscaler.controller.web import application
from lagscaler.controller.world import World
from lagscaler.kubernetes.kinds import CONSUMERS, DEPLOYMENTS
from lagscaler.metrics import Metrics
from lagscaler.policy.decide import decide
from lagscaler.policy.document import parse_sample, parse_spec, parse_state
from lagscaler.policy.model import Decision, Sample, Spec, State
from tests.unit.lagscaler.builders import consumer_body, deployment_body
from tests.unit.lagscaler.fakes import SETTINGS, Clock, FakeKubernetes, FakeRecorder, FakeSampler, until


def test_health_readiness_metrics_and_histories() -> None:
    async def whole() -> None:
        clock, metrics, kubernetes = Clock(), Metrics("1"), FakeKubernetes()
        late: list[float] = [0.0]
        kubernetes.world = World(lambda *_: None)
        kubernetes.world.settings = SETTINGS
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
        loops.cancel()
        await asyncio.wait({loops})
        await runner.cleanup()

    asyncio.run(whole())


def test_what_is_served_is_what_the_last_decision_was_made_of(monkeypatch: pytest.MonkeyPatch) -> None:
    made: dict[float, Decision] = {}

    def noted(history: Sequence[Sample], spec: Spec, state: State) -> Decision:
        made[history[-1].at] = decide(history, spec, state)
        return made[history[-1].at]

    monkeypatch.setattr("lagscaler.controller.scaling.decide", noted)

    async def whole() -> None:
        clock, kubernetes = Clock(), FakeKubernetes()
        kubernetes.world = World(lambda *_: None)
        kubernetes.world.settings = SETTINGS
        scaling = Scaling(kubernetes.world, kubernetes, FakeRecorder(), Metrics("1"), lambda *_: None, clock)
        sampler = scaling.samplers["main"] = FakeSampler(clock)
        kubernetes.put(DEPLOYMENTS, deployment_body(1))
        fast = {"scaling": {"pollSeconds": 1}, "capacity": {"perReplica": 100, "windowSeconds": 30}}
        kubernetes.put(CONSUMERS, consumer_body(**fast, service="orders", idle={"toZero": True}))
        app = application(scaling, Metrics("1"), lambda: "", clock)
        handler, *_ = [
            route.handler for route in app.router.routes() if route.resource and "history" in route.resource.canonical
        ]
        request = make_mocked_request("GET", "/", match_info={"namespace": "shop", "name": "orders"}, app=app)
        loops = asyncio.create_task(scaling.run())
        served = 0
        for lag in (0, 100, 100_000, 0):
            sampler.lag, enough = lag, len(made) + 4
            while len(made) < enough:
                await asyncio.sleep(0.005)
                found = json.loads((await handler(request)).body) if made else {"history": []}
                if found["history"]:
                    spec, state = parse_spec(found["spec"]), parse_state(found["state"])
                    history = [parse_sample(one) for one in found["history"]]
                    assert decide(history, spec, state) == made[history[-1].at]
                    # The stage of its service is not known, so that one replica stays.
                    assert not spec.to_zero
                    served += 1
        assert served > 4
        assert len({decision.replicas for decision in made.values()}) > 1
        loops.cancel()
        await asyncio.wait({loops})

    asyncio.run(asyncio.wait_for(whole(), 90))
