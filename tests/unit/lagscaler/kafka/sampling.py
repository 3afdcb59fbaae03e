"""A sampler before one broker or two that answer as they are told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from lagscaler.kafka.sampler import Reading, Request, Sampler
from tests.unit.lagscaler.kafka.fake_broker import FakeBroker

T = TypeVar("T")

NOW = 25.0
"""Seconds since the epoch; the last of the shop's records was written at 19."""

ORDERS = Request("orders", "workers", ("orders",))
RETURNS = Request("returns", "accounts", ("returns",))
"""Of `side_by_side`."""


def shop() -> FakeBroker:
    """A broker with a topic of two partitions, and a group that has read some of the first."""
    return FakeBroker(
        logs={"orders": {0: [(number, 1000 * number) for number in range(5, 20)], 1: []}},
        commits={"workers": {("orders", 0): (8, "v=1;busy=0.50;beyond=1.2")}},
        members={"workers": {"one": [("orders", 0)], "two": [("orders", 1)]}},
        new_protocol={"workers"},
    )


def sampled(broker: FakeBroker, *requests: Request, attempt: float = 30.0, timeout: float = 60.0) -> Reading:
    """Return the first request's reading."""

    async def take(sampler: Sampler) -> Reading:
        return (await sampler.sample(requests))[requests[0].key]

    return run(broker, take, attempt, timeout)


def run(broker: FakeBroker, work: Callable[[Sampler], Awaitable[T]], attempt: float = 30.0, timeout: float = 60.0) -> T:
    async def main() -> T:
        async with broker, Sampler(broker.settings, timeout, attempt, clock=lambda: NOW) as sampler:
            return await work(sampler)

    return asyncio.run(main())


def broken(_: object) -> bytes:
    """Answer nothing, and close the connection."""
    raise ConnectionError


async def of_two(first: FakeBroker, second: FakeBroker) -> Sampler:
    """Make a cluster of two brokers, of which the second leads and the first is where to begin."""
    first.others, first.leader, second.id, second.others = {2: second.port}, 2, 2, {1: first.port}
    return Sampler(first.settings, 60.0, 30.0)


async def side_by_side(first: FakeBroker, second: FakeBroker, timeout: float = 60.0, attempt: float = 60.0) -> Sampler:
    """Make a cluster of two brokers: RETURNS is the second's, all else the first's, to which the sampler turns."""
    second.id = 2
    first.others, second.others = {2: second.port}, {1: first.port}
    for one in (first, second):
        one.logs["returns"] = {0: [(number, 1000 * number) for number in range(3)]}
        one.members["accounts"] = {"three": [("returns", 0)]}
        one.new_protocol.add("accounts")
    first.elsewhere = second.elsewhere = {"returns": 2, "accounts": 2}
    second.leader = 1
    return Sampler(first.settings, timeout, attempt, clock=lambda: NOW)
