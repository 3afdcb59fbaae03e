"""What a real worker commits, and what the sampler makes of it."""

from __future__ import annotations

import asyncio

import pytest

from lagscaler.kafka.sampler import Reading, Request, Sampler
from lagscaler.settings import ClusterSettings
from tests.integration.lagscaler.administrator import until
from tests.project.harness import Project

pytestmark = [pytest.mark.services, pytest.mark.timeout(400)]

NAP = 30.0
"""Seconds of the one long task: long enough to be seen at work on a slow machine."""


def left(reading: Reading) -> float:
    """Return how many records are not finished."""
    return sum(one.end - max(one.committed or 0, one.start) - one.beyond for one in reading.partitions.values())


def beyond(reading: Reading) -> float:
    return sum(one.beyond for one in reading.partitions.values())


def busy(reading: Reading) -> float:
    return max((one.busy or 0.0 for one in reading.partitions.values()), default=0.0)


def test_a_long_task_is_seen_at_work_and_what_is_finished_beyond_it_is_not_lag(bridged: Project) -> None:
    bridged.stand("work", "live", 10_000)
    worker = bridged.kafka_worker(processes=2)
    request = Request("work", f"{bridged.prefix}.work", (f"{bridged.prefix}.work",), want_times=True)

    async def watch() -> tuple[Reading, Reading]:
        settings = ClusterSettings("main", bridged.environment["KAFKA_BOOTSTRAP_SERVERS"])
        async with Sampler(settings, timeout=60.0, attempt=30.0) as sampler:
            # Every partition gets a record behind the one that takes so long, wherever that is.
            work = f"tasks.naps.delay({NAP})\nfor _ in range(60): tasks.add.delay(1, 2)\n"
            dispatching = asyncio.create_task(asyncio.to_thread(bridged.script, work))
            at_work = await until(sampler, request, lambda one: left(one) == 1 and busy(one) >= 0.4 and beyond(one) > 0)
            await dispatching
            return at_work, await until(sampler, request, lambda one: left(one) == 0)

    at_work, finished = asyncio.run(watch())
    (held,) = (one for one in at_work.partitions.values() if one.end > (one.committed or 0))
    assert held.beyond > 0
    assert held.member is not None
    assert held.first_unread_at is not None
    assert 0 <= at_work.at - held.first_unread_at < NAP + 90
    assert at_work.members == 1
    assert at_work.gaps == finished.gaps == {}
    assert {one.first_unread_at for one in finished.partitions.values()} == {None}
    assert worker.terminate() == 0
    bridged.stop()
