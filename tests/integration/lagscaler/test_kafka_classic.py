"""A broker on which the protocol of KIP-848 is switched off, as it was by default before Kafka 4.0."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator

import pytest

from devstack.secure_kafka import SecureKafka
from lagscaler.kafka.sampler import Reading, Request, Sampler
from tests.integration.lagscaler.administrator import Administrator, until

pytestmark = [pytest.mark.services, pytest.mark.timeout(300)]


class ClassicKafka(SecureKafka):
    """Knows the questions of the new protocol, and refuses them."""

    def listeners(self, controller: str) -> dict[str, str]:
        return {**super().listeners(controller), "group.coordinator.rebalance.protocols": "classic"}


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureKafka]:
    server = ClassicKafka(tmp_path_factory.mktemp("kafka"), owner=os.getpid(), dispose=True, report=print)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def test_members_are_known(admin: Administrator) -> None:
    async def once() -> Reading:
        async with Sampler(admin.settings, timeout=60.0, attempt=30.0) as sampler:
            request = Request("x", admin.group, (admin.topic,))
            return await until(sampler, request, lambda one: not one.gaps and not one.rebalancing and one.members)

    admin.create()
    admin.write_now(3)
    with admin.member("classic") as consumer:
        found = asyncio.run(once())
        assert found.members == 1
        assert {one.member for one in found.partitions.values()} == {consumer.memberid()}
