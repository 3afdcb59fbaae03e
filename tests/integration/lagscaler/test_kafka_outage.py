"""A broker that goes and comes back while the sampler runs."""

from __future__ import annotations

import asyncio

import pytest

from lagscaler.kafka.sampler import Reading, Request, Sampler
from lagscaler.policy.model import Gap
from tests.integration.lagscaler.administrator import Administrator, until

pytestmark = [pytest.mark.services, pytest.mark.timeout(400)]


@pytest.fixture
def request_(admin: Administrator) -> Request:
    admin.create(partitions=2)
    admin.write_now(3)
    admin.commit({0: 1, 1: 0})
    return Request("x", admin.group, (admin.topic,))


def test_a_broker_that_is_stopped_and_comes_back(admin: Administrator, request_: Request) -> None:
    async def outage() -> list[Reading]:
        async with Sampler(admin.settings, timeout=60.0, attempt=30.0) as sampler:
            before = await until(sampler, request_, lambda one: not one.gaps)
            polling = asyncio.create_task(keep_sampling(sampler, request_))
            await asyncio.to_thread(admin.broker.stop)
            away = await until(sampler, request_, lambda one: Gap.UNREACHABLE in one.gaps)
            await asyncio.to_thread(admin.broker.start)
            after = await until(sampler, request_, lambda one: not one.gaps)
            polling.cancel()
            return [before, away, after]

    before, away, after = asyncio.run(outage())
    assert away.partitions == {}
    assert after.partitions == before.partitions


def test_a_broker_that_hangs_and_goes_on(admin: Administrator, request_: Request) -> None:
    async def pause() -> list[Reading]:
        async with Sampler(admin.settings, timeout=60.0, attempt=2.0) as sampler:
            before = await until(sampler, request_, lambda one: not one.gaps)
            try:
                await asyncio.to_thread(admin.broker.pause)
                hung = (await sampler.sample([request_]))["x"]
            finally:
                admin.broker.resume()
            return [before, hung, await until(sampler, request_, lambda one: not one.gaps)]

    before, hung, after = asyncio.run(pause())
    assert list(hung.gaps) == [Gap.UNREACHABLE]
    assert "did not answer within 2 s" in hung.gaps[Gap.UNREACHABLE]
    assert after.partitions == before.partitions


async def keep_sampling(sampler: Sampler, request: Request) -> None:
    """Have a question under way at every moment."""
    while True:
        await sampler.sample([request])
