"""Lag as a real broker has it: every way in which it could be got wrong."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TypeVar

import pytest
from confluent_kafka import TopicPartition as Partition
from confluent_kafka.admin import ResourceType  # type: ignore[attr-defined]  # re-export

from lagscaler.kafka.brokers import Brokers
from lagscaler.kafka.calls import Node
from lagscaler.kafka.sampler import Reading, Request, Sampler
from lagscaler.policy.model import Gap
from lagscaler.settings import ClusterSettings
from tests.integration.lagscaler.administrator import PATIENCE, Administrator, until

pytestmark = [pytest.mark.services, pytest.mark.timeout(300)]

T = TypeVar("T")


def run(settings: ClusterSettings, work: Callable[[Sampler], Awaitable[T]]) -> T:
    async def main() -> T:
        async with Sampler(settings, timeout=60.0, attempt=30.0) as sampler:
            return await work(sampler)

    return asyncio.run(main())


def asked(admin: Administrator, **options: bool) -> Request:
    return Request("x", admin.group, (admin.topic,), **options)


def sampled(admin: Administrator, settings: ClusterSettings | None = None, **options: bool) -> Reading:
    """Return a reading once there is a complete one: a new cluster needs a moment for its first group."""
    return run(
        settings or admin.settings, lambda sampler: until(sampler, asked(admin, **options), lambda one: not one.gaps)
    )


def told(reading: Reading) -> Mapping[int, tuple[float, float, float | None]]:
    """Return start, end and committed offset by partition."""
    return {number: (one.start, one.end, one.committed) for (_, number), one in reading.partitions.items()}


@pytest.mark.parametrize("protocol", ["consumer", "classic"])
def test_a_group_at_work(admin: Administrator, protocol: str) -> None:
    admin.create()
    admin.write_now(10, partition=0)
    admin.write_now(5, partition=1)
    with admin.member(protocol) as consumer:
        consumer.commit(offsets=[Partition(admin.topic, 0, 4, metadata="v=1;busy=0.42;beyond=2.3")], asynchronous=False)
        reading = run(
            admin.settings,
            lambda sampler: until(sampler, asked(admin), lambda one: not one.rebalancing and one.members == 1),
        )
        assert told(reading) == {0: (0, 10, 4), 1: (0, 5, None)}
        first = reading.partitions[admin.topic, 0]
        assert (first.beyond, first.busy) == (3, 0.42)
        assert {one.member for one in reading.partitions.values()} == {consumer.memberid()}
    gone = run(admin.settings, lambda sampler: until(sampler, asked(admin), lambda one: one.members == 0))
    assert gone.gaps == {}
    assert told(gone) == told(reading)
    assert {one.member for one in gone.partitions.values()} == {None}


def test_questions_for_brokers_that_take_one_group_at_a_time(
    admin: Administrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def speaks(self: Brokers, node: Node | None, api: int, version: int) -> bool:
        return False

    admin.create()
    admin.write_now(10, partition=0)
    with admin.member("classic") as consumer:
        consumer.commit(offsets=[Partition(admin.topic, 0, 4, metadata="v=1;busy=0.42")], asynchronous=False)
        batched = sampled(admin)
        monkeypatch.setattr(Brokers, "speaks", speaks)
        single = sampled(admin)
    assert single.partitions == batched.partitions
    assert single.members == batched.members == 1


def test_transactions(admin: Administrator) -> None:
    admin.create(partitions=1)
    admin.write_now(3)
    with admin.transaction() as producer:
        producer.produce(admin.topic, b"x", partition=0)
        assert producer.flush(60) == 0
        # One record of an open transaction: a consumer may not read it yet.
        assert told(sampled(admin)) == {0: (0, 3, None)}
        assert told(sampled(admin, read_committed=False)) == {0: (0, 4, None)}
        producer.commit_transaction(60)
    # The record, and the marker that ends the transaction.
    assert told(run(admin.settings, lambda one: until(one, asked(admin), lambda seen: told(seen)[0][1] > 3))) == {
        0: (0, 5, None)
    }
    with admin.transaction() as producer:
        producer.produce(admin.topic, b"x", partition=0)
        assert producer.flush(60) == 0
        producer.abort_transaction(60)
    assert told(run(admin.settings, lambda one: until(one, asked(admin), lambda seen: told(seen)[0][1] > 5))) == {
        0: (0, 7, None)
    }


def test_retention_that_overtakes_the_group(admin: Administrator) -> None:
    admin.create(partitions=1)
    admin.write_now(10)
    admin.commit({0: 2}, "v=1;beyond=1.3")
    admin.forget_before(6)
    reading = sampled(admin)
    assert told(reading) == {0: (6, 10, 2)}
    assert reading.partitions[admin.topic, 0].beyond == 0


def test_a_group_that_is_deleted_has_committed_nothing(admin: Administrator) -> None:
    admin.create(partitions=1)
    admin.write_now(3)
    admin.commit({0: 2})
    assert told(sampled(admin)) == {0: (0, 3, 2)}
    admin.delete_group()
    reading = sampled(admin)
    assert told(reading) == {0: (0, 3, None)}
    assert reading.members == 0


def test_new_partitions_are_seen_at_once(admin: Administrator) -> None:
    admin.create(partitions=1)

    async def grown(sampler: Sampler) -> Reading:
        await until(sampler, asked(admin), lambda one: not one.gaps)
        admin.extend(3)
        return await until(sampler, asked(admin), lambda one: len(one.partitions) == 3)

    assert run(admin.settings, grown).gaps == {}


def test_a_topic_that_is_deleted_and_made_anew(admin: Administrator) -> None:
    admin.create(partitions=1)
    admin.write_now(5)
    admin.commit({0: 5})

    async def remade(sampler: Sampler) -> list[Reading]:
        before = await until(sampler, asked(admin), lambda one: not one.gaps)
        admin.delete()
        gone = await until(sampler, asked(admin), lambda one: one.gaps)
        admin.create(partitions=1)
        admin.write_now(2)
        return [before, gone, await until(sampler, asked(admin), lambda one: not one.gaps)]

    before, gone, after = run(admin.settings, remade)
    assert told(before) == {0: (0, 5, 5)}
    assert list(gone.gaps) == [Gap.NO_TOPIC]
    assert gone.partitions == {}
    assert told(after) == {0: (0, 2, None)}


def test_times_of_unread_records(admin: Administrator) -> None:
    admin.create(partitions=3)
    now = time.time()
    admin.write([now - 86_400 + 60 * number for number in range(1_000)], partition=0)
    admin.write([now - 900] * 10, partition=1)
    admin.commit({0: 600, 1: 10, 2: 0})
    # Twice the same in one poll, for groups that share the topic.
    admin.commit({0: 0, 1: 3, 2: 0}, group=f"{admin.group}-slower")
    requests = [Request(name, name, (admin.topic,), want_times=True) for name in (admin.group, f"{admin.group}-slower")]

    async def both(sampler: Sampler) -> list[dict[int, float | None]]:
        await until(sampler, requests[0], lambda one: not one.gaps)
        await until(sampler, requests[1], lambda one: not one.gaps)
        found = await sampler.sample(requests)
        return [
            {number: one.first_unread_at for (_, number), one in found[request.key].partitions.items()}
            for request in requests
        ]

    fast, slow = run(admin.settings, both)
    assert fast[1] is fast[2] is slow[2] is None
    assert fast[0] is not None
    age = 86_400 - 600 * 60
    assert now - fast[0] == pytest.approx(age, rel=0.06)
    assert fast[0] <= now - age + 0.01
    assert slow[0] == pytest.approx(now - 86_400, abs=0.01)
    assert slow[1] == pytest.approx(now - 900, abs=0.01)


def test_each_right_that_is_missing_is_named(admin: Administrator, tmp_path: Path) -> None:
    admin.create(partitions=1)
    admin.write_now(3)
    admin.commit({0: 1})
    password = tmp_path / "password"
    password.write_text("first")
    admin.set_password("first")

    async def granted(sampler: Sampler) -> list[Reading]:
        request = asked(admin)
        nothing = await until(sampler, request, lambda one: Gap.DENIED_TOPIC in one.gaps)
        admin.grant(ResourceType.TOPIC, admin.topic)
        topic = await until(sampler, request, lambda one: list(one.gaps) == [Gap.DENIED_GROUP])
        admin.grant(ResourceType.GROUP, admin.group)
        both = await until(sampler, request, lambda one: not one.gaps)
        admin.revoke(ResourceType.GROUP, admin.group)
        lost = await until(sampler, request, lambda one: one.gaps)
        admin.grant(ResourceType.GROUP, admin.group)
        admin.revoke(ResourceType.TOPIC, admin.topic)
        return [nothing, topic, both, lost, await until(sampler, request, lambda one: Gap.DENIED_TOPIC in one.gaps)]

    nothing, topic, both, lost, last = run(admin.with_password(password), granted)
    assert f"Kafka denies user {admin.user} the topic {admin.topic}" in nothing.gaps[Gap.DENIED_TOPIC]
    assert f"Kafka denies user {admin.user} the group {admin.group}" in topic.gaps[Gap.DENIED_GROUP]
    assert told(both) == {0: (0, 3, 1)}
    assert list(lost.gaps) == [Gap.DENIED_GROUP]
    assert lost.partitions == {}
    assert last.partitions == {}


def test_a_topic_that_is_missing_and_one_that_is_denied_are_told_apart(admin: Administrator, tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("first")
    admin.set_password("first")
    admin.grant(ResourceType.TOPIC, admin.topic)

    async def missing(sampler: Sampler) -> tuple[Reading, Reading]:
        hidden = Request("x", admin.group, (f"{admin.topic}-hidden",))
        return (
            await until(sampler, asked(admin), lambda one: Gap.NO_TOPIC in one.gaps),
            await until(sampler, hidden, lambda one: Gap.DENIED_TOPIC in one.gaps),
        )

    absent, denied = run(admin.with_password(password), missing)
    assert Gap.DENIED_TOPIC not in absent.gaps
    assert Gap.NO_TOPIC not in denied.gaps


def test_a_password_that_is_changed_while_the_sampler_runs(admin: Administrator, tmp_path: Path) -> None:
    admin.create(partitions=1)
    admin.grant(ResourceType.TOPIC, admin.topic)
    admin.grant(ResourceType.GROUP, admin.group)
    password = tmp_path / "password"
    password.write_text("first")
    admin.set_password("first")

    async def first_look() -> Reading:
        async with Sampler(admin.with_password(password), 60.0, 30.0) as another:
            return (await another.sample([asked(admin)]))["x"]

    async def rotated(sampler: Sampler) -> Reading:
        await until(sampler, asked(admin), lambda one: not one.gaps)
        admin.set_password("second")

        # A login that comes before the broker has learned the password is good for as long as its connection stands.
        deadline = time.monotonic() + PATIENCE
        while Gap.AUTHENTICATION not in (early := await first_look()).gaps:
            assert time.monotonic() < deadline, "the old password is still taken"
            await asyncio.sleep(0.1)
        assert list(early.gaps) == [Gap.AUTHENTICATION]
        assert str(password) in early.gaps[Gap.AUTHENTICATION]
        # Whoever was in stays in until the file follows.
        assert not (await sampler.sample([asked(admin)]))["x"].gaps
        password.write_text("second, which is longer")
        assert list((await sampler.sample([asked(admin)]))["x"].gaps) == [Gap.AUTHENTICATION]
        password.write_text("second")
        return (await sampler.sample([asked(admin)]))["x"]

    assert run(admin.with_password(password), rotated).gaps == {}


def test_a_port_that_asks_for_a_login_that_we_do_not_bring(admin: Administrator) -> None:
    settings = ClusterSettings("main", admin.broker.url)
    gaps = run(settings, lambda one: until(one, asked(admin), lambda seen: seen.gaps)).gaps
    assert list(gaps) == [Gap.UNREACHABLE]
    assert "check that it speaks PLAINTEXT at this port" in gaps[Gap.UNREACHABLE]
