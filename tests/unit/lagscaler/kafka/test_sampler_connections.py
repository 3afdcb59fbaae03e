"""Which connections a sampler keeps, makes again and lets go, with one broker and with two."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from lagscaler.kafka.connection import Connection
from lagscaler.kafka.sampler import Reading, Sampler
from lagscaler.policy.model import Gap
from tests.unit.lagscaler.kafka.fake_broker import COORDINATOR, FETCH, LIST, METADATA, FakeBroker
from tests.unit.lagscaler.kafka.sampling import ORDERS, broken, of_two, run, shop


@pytest.mark.parametrize("api", [METADATA, COORDINATOR, FETCH, LIST])
def test_a_connection_that_broke_is_made_again_at_once(api: int) -> None:
    broker = shop()

    async def twice(sampler: Sampler) -> Reading:
        assert not (await sampler.sample([ORDERS]))["orders"].gaps
        broker.hang_up.add(api)
        sampler.keep([])
        return (await sampler.sample([ORDERS]))["orders"]

    assert run(broker, twice).gaps == {}
    assert broker.connections == 2


def test_connections_and_coordinators_are_kept() -> None:
    broker = shop()

    async def thrice(sampler: Sampler) -> None:
        for _ in range(3):
            await sampler.sample([ORDERS])
        sampler.keep([])
        await sampler.sample([ORDERS])

    run(broker, thrice)
    assert broker.connections == 1
    assert broker.count(COORDINATOR) == 2


def test_it_goes_on_after_a_failure() -> None:
    async def main() -> list[dict[Gap, str]]:
        broker = shop()
        async with broker:
            settings = broker.settings
            sampler = Sampler(settings)
            first = (await sampler.sample([ORDERS]))["orders"]
        second = (await sampler.sample([ORDERS]))["orders"]
        async with broker:
            third = (await sampler.sample([ORDERS]))["orders"]
            await sampler.close()
        return [dict(one.gaps) for one in (first, second, third)]

    first, second, third = asyncio.run(main())
    assert first == third == {}
    assert list(second) == [Gap.UNREACHABLE]


def test_who_is_cancelled_leaves_the_sampler_usable() -> None:
    broker = shop()
    broker.silent = {FETCH}

    async def cancelled(sampler: Sampler) -> Reading:
        task = asyncio.create_task(sampler.sample([ORDERS]))
        while not broker.count(FETCH):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        broker.silent = set()
        return (await sampler.sample([ORDERS]))["orders"]

    assert run(broker, cancelled).gaps == {}
    assert broker.connections == 1


def test_closing_ends_what_is_under_way() -> None:
    broker = shop()
    broker.silent = {METADATA}

    async def closed(sampler: Sampler) -> Reading:
        task = asyncio.create_task(sampler.sample([ORDERS]))
        while not broker.count(METADATA):
            await asyncio.sleep(0)
        await sampler.close()
        return (await task)["orders"]

    assert list(run(broker, closed).gaps) == [Gap.UNREACHABLE]


def test_after_closing_nothing_is_connected_to(caplog: pytest.LogCaptureFixture) -> None:
    broker = shop()

    async def closed(sampler: Sampler) -> list[Reading]:
        await sampler.sample([ORDERS])
        broker.silent = {FETCH}
        task = asyncio.create_task(sampler.sample([ORDERS]))
        while broker.count(FETCH) < 2:
            await asyncio.sleep(0)
        broker.silent = set()
        await sampler.close()
        return [(await task)["orders"], (await sampler.sample([ORDERS]))["orders"]]

    for found in run(broker, closed):
        assert list(found.gaps) == [Gap.UNREACHABLE]
        assert "closed" in found.gaps[Gap.UNREACHABLE]
    assert broker.connections == 1
    assert caplog.text == ""


def test_a_connection_that_opens_while_the_sampler_is_closed_is_closed_too(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = shop()
    opens, closed = asyncio.Event(), asyncio.Event()
    really = Connection.open

    async def held(*arguments: Any) -> Connection:
        opens.set()
        await closed.wait()
        return await really(*arguments)

    monkeypatch.setattr(Connection, "open", held)

    async def close(sampler: Sampler) -> Reading:
        task = asyncio.create_task(sampler.sample([ORDERS]))
        await opens.wait()
        await sampler.close()
        closed.set()
        found = (await task)["orders"]
        while broker.open:
            await asyncio.sleep(0)
        return found

    assert list(run(broker, close).gaps) == [Gap.UNREACHABLE]
    assert broker.count(METADATA) == 0


def test_leaders_and_coordinators_are_asked_where_they_are() -> None:
    async def main() -> tuple[Reading, FakeBroker, FakeBroker]:
        async with shop() as first, shop() as second, await of_two(first, second) as sampler:
            return (await sampler.sample([ORDERS]))["orders"], first, second

    found, first, second = asyncio.run(main())
    assert found.gaps == {}
    assert first.count(FETCH) == first.count(LIST) == second.count(METADATA) == 0
    assert (second.count(FETCH), second.count(LIST)) == (1, 2)


@pytest.mark.parametrize("api", [FETCH, LIST])
def test_another_broker_takes_over_in_the_middle_of_a_poll(api: int) -> None:
    async def main() -> Reading:
        async with shop() as first, shop() as second, await of_two(first, second) as sampler:
            await sampler.sample([ORDERS])

            def gone(_: object) -> bytes:
                """End for good, and leave everything to the first."""
                first.leader, second.refuses = 1, True
                raise ConnectionError

            second.instead[api] = gone
            return (await sampler.sample([ORDERS]))["orders"]

    assert asyncio.run(main()).gaps == {}


def test_a_broker_that_left_the_cluster_is_let_go() -> None:
    async def main() -> int:
        async with shop() as first, shop() as second, await of_two(first, second) as sampler:
            await sampler.sample([ORDERS])
            assert second.open == 1
            first.others, first.leader = {}, 1
            second.instead[METADATA] = broken
            sampler.keep([])
            await sampler.sample([ORDERS])
            while second.open:
                await asyncio.sleep(0)
            return second.open

    assert asyncio.run(main()) == 0
