"""Samples of consumers, from a broker that answers as it is told."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Hashable, Mapping

import pytest

from lagscaler.kafka import groupview, sampler
from lagscaler.kafka.logs import Logs
from lagscaler.kafka.sampler import Reading, Request, Sampler
from lagscaler.kafka.wire import Reader
from lagscaler.policy.model import Gap, PartitionSample, TopicPartition
from lagscaler.settings import ClusterSettings, SettingsError
from tests.unit.lagscaler.kafka.fake_broker import (
    COORDINATOR,
    DESCRIBE,
    DESCRIBE_NEW,
    FETCH,
    LIST,
    METADATA,
    OLDEST,
    VERSIONS,
)
from tests.unit.lagscaler.kafka.sampling import NOW, ORDERS, RETURNS, run, sampled, shop, side_by_side


@pytest.mark.parametrize("old", [False, True])
def test_a_complete_reading(old: bool) -> None:
    broker = shop()
    if old:
        broker.versions, broker.new_protocol = dict(OLDEST), set()
    found = sampled(broker, ORDERS)
    assert found.partitions == {
        ("orders", 0): PartitionSample(start=5, end=20, committed=8, beyond=2, busy=0.5, member="one"),
        ("orders", 1): PartitionSample(start=0, end=0, committed=None, member="two"),
    }
    assert (found.members, found.rebalancing, found.gaps) == (2, False, {})
    assert (FETCH, 3 if old else 8) in broker.asked
    sample = found.sample(replicas=3, ready=2)
    assert sample.complete
    assert (sample.replicas, sample.ready, sample.at) == (3, 2, NOW)


def test_commits_are_read_before_the_logs() -> None:
    broker = shop()
    sampled(broker, ORDERS)
    order = [api for api, _ in broker.asked]
    assert order.index(METADATA) < order.index(FETCH) < order.index(LIST)


def test_the_questions_do_not_grow_with_the_consumers() -> None:
    broker = shop()
    requests = [Request(number, f"group-{number}", ("orders",)) for number in range(100)]
    assert sampled(broker, *requests).gaps == {}
    assert (broker.count(METADATA), broker.count(COORDINATOR), broker.count(FETCH), broker.count(LIST)) == (1, 1, 1, 2)


def test_both_isolations_are_asked_for_where_both_are_wanted() -> None:
    broker = shop()
    dirty = Request("dirty", "workers", ("orders",), read_committed=False)
    sampled(broker, ORDERS, dirty)
    assert broker.count(LIST) == 3


@pytest.mark.parametrize(("state", "moving"), [("Stable", False), ("Reconciling", True), ("Assigning", True)])
def test_a_group_between_two_assignments(state: str, moving: bool) -> None:
    broker = shop()
    broker.state = state
    assert sampled(broker, ORDERS).rebalancing is moving


def test_a_classic_group_is_described_as_one() -> None:
    broker = shop()
    broker.new_protocol = set()
    broker.state = "PreparingRebalance"
    found = sampled(broker, ORDERS)
    assert found.rebalancing
    assert found.partitions["orders", 0].member == "one"
    assert broker.count(DESCRIBE) == broker.count(DESCRIBE_NEW) == 1


def test_where_kip_848_is_switched_off_groups_are_described_the_old_way() -> None:
    broker = shop()
    broker.new_protocol, broker.unknown_group = set(), 35
    found = sampled(broker, ORDERS)
    assert found.members == 2
    assert found.partitions["orders", 0].member == "one"


def test_a_group_that_never_was_is_no_gap() -> None:
    found = sampled(shop(), Request("x", "nobody", ("orders",)))
    assert found.gaps == {}
    assert found.members == 0
    assert {sample.committed for sample in found.partitions.values()} == {None}


def test_what_retention_took_is_not_counted_as_finished() -> None:
    broker = shop()
    broker.starts["orders", 0] = 12
    sample = sampled(broker, ORDERS).partitions["orders", 0]
    assert (sample.start, sample.committed, sample.beyond) == (12, 8, 0)


def test_more_cannot_be_finished_than_there_is() -> None:
    broker = shop()
    broker.commits["workers"]["orders", 0] = (18, "v=1;beyond=1.500")
    assert sampled(broker, ORDERS).partitions["orders", 0].beyond == 2


@pytest.mark.parametrize("code", [14, 15, 16])
@pytest.mark.parametrize("old", [False, True])
def test_a_coordinator_that_moved_is_looked_for_again(code: int, old: bool) -> None:
    broker = shop()
    if old:
        broker.versions = dict(OLDEST)
    broker.group_errors = [code]
    assert sampled(broker, ORDERS).gaps == {}
    assert broker.count(COORDINATOR) == 2


def test_a_coordinator_that_is_not_there_yet_is_looked_for_again() -> None:
    broker = shop()
    broker.coordinator_errors = [15]
    assert sampled(broker, ORDERS).gaps == {}


def test_a_coordinator_that_stays_away_is_a_gap_and_the_log_is_known() -> None:
    broker = shop()
    broker.group_errors = [14] * 10
    found = sampled(broker, ORDERS)
    assert list(found.gaps) == [Gap.UNREACHABLE]
    assert "COORDINATOR_LOAD_IN_PROGRESS" in found.gaps[Gap.UNREACHABLE]
    assert broker.count(FETCH) == groupview.ROUNDS


@pytest.mark.parametrize("where", ["coordinator_errors", "group_errors"])
def test_a_denied_group(where: str) -> None:
    broker = shop()
    setattr(broker, where, [30] * 10)
    gaps = sampled(broker, ORDERS).gaps
    assert gaps == {Gap.DENIED_GROUP: "Kafka denies the operator the group workers: grant Describe on it"}


@pytest.mark.parametrize(
    ("code", "gap"),
    [(29, Gap.DENIED_TOPIC), (3, Gap.NO_TOPIC), (17, Gap.NO_TOPIC), (5, Gap.NO_LEADER), (-1, Gap.OTHER)],
)
def test_a_topic_that_metadata_does_not_tell_of(code: int, gap: Gap) -> None:
    broker = shop()
    broker.topic_errors["orders"] = code
    found = sampled(broker, ORDERS)
    assert list(found.gaps) == [gap]
    assert "orders" in found.gaps[gap]
    assert found.partitions == {}


def test_one_topic_of_two_is_missing_and_the_other_is_known() -> None:
    found = sampled(shop(), Request("both", "workers", ("orders", "returns")))
    assert found.gaps == {Gap.NO_TOPIC: "there is no topic returns: create it, or correct spec.topics"}
    assert set(found.partitions) == {("orders", 0), ("orders", 1)}


def test_a_partition_without_a_leader_is_named() -> None:
    broker = shop()
    broker.leaderless = {("orders", 1)}
    found = sampled(broker, ORDERS)
    assert list(found.gaps) == [Gap.NO_LEADER]
    assert "(partitions 1)" in found.gaps[Gap.NO_LEADER]
    assert set(found.partitions) == {("orders", 0)}


@pytest.mark.parametrize("code", [3, 5, 6, 74, 75, 78])
def test_a_leader_that_moved_is_looked_for_again(code: int) -> None:
    broker = shop()
    broker.offset_errors = [code, code]
    assert sampled(broker, ORDERS).gaps == {}
    assert broker.count(METADATA) > 1


def test_a_partition_of_which_nothing_is_said_is_a_gap() -> None:
    broker = shop()
    broker.left_out = {("orders", 1)}
    found = sampled(broker, ORDERS)
    assert list(found.gaps) == [Gap.OTHER]
    assert set(found.partitions) == {("orders", 0)}


def test_no_broker_answers() -> None:
    async def main() -> Reading:
        async with shop() as broker:
            settings = broker.settings
        async with Sampler(settings) as sampler:
            return (await sampler.sample([ORDERS]))["orders"]

    found = asyncio.run(main())
    assert list(found.gaps) == [Gap.UNREACHABLE]
    assert "no broker of cluster main (127.0.0.1:" in found.gaps[Gap.UNREACHABLE]
    assert found.members is None


@pytest.mark.parametrize("api", [VERSIONS, METADATA])
def test_a_broker_that_says_nothing(api: int) -> None:
    broker = shop()
    broker.silent = {api}
    gaps = sampled(broker, ORDERS, attempt=0.05).gaps
    assert list(gaps) == [Gap.UNREACHABLE]
    assert "did not answer within 0.05 s" in gaps[Gap.UNREACHABLE]


def test_a_coordinator_that_says_nothing_is_asked_once() -> None:
    broker = shop()
    broker.silent = {FETCH}
    gaps = sampled(broker, ORDERS, attempt=2.0).gaps
    assert list(gaps) == [Gap.UNREACHABLE]
    assert "the coordinator of the group did not answer" in gaps[Gap.UNREACHABLE]
    assert broker.count(FETCH) == 1


def test_a_leader_that_says_nothing() -> None:
    broker = shop()
    broker.silent = {LIST}
    gaps = sampled(broker, ORDERS, attempt=2.0).gaps
    assert list(gaps) == [Gap.NO_LEADER]
    assert "(partitions 0, 1)" in gaps[Gap.NO_LEADER]


@pytest.mark.parametrize("silent", [LIST, DESCRIBE_NEW])
def test_a_poll_ends_in_time_and_keeps_what_it_has_learned(silent: int) -> None:
    """One of two brokers is silent at last: what the other told is known, and of what is its own the rest."""

    async def main() -> Mapping[Hashable, Reading]:
        async with shop() as first, shop() as second, await side_by_side(first, second, timeout=2.0) as sampler:
            second.silent = {silent}
            while True:
                # A machine that stands still may end a poll earlier than the silence does.
                found = await sampler.sample([ORDERS, RETURNS])
                if found["orders"].members is not None and not found["orders"].gaps:
                    return found

    found = asyncio.run(asyncio.wait_for(main(), 90))
    assert set(found["orders"].partitions) == {("orders", 0), ("orders", 1)}
    gaps = found["returns"].gaps
    if silent == LIST:
        assert "did not answer everything within 2 s" in gaps[Gap.UNREACHABLE]
        assert (found["returns"].members, found["returns"].partitions) == (1, {})
    else:
        assert gaps == {}
        assert (found["returns"].members, set(found["returns"].partitions)) == (None, {("returns", 0)})


@pytest.mark.parametrize("coordinates", [True, False])
def test_a_broker_that_cannot_be_connected_to_is_tried_once_in_a_poll(coordinates: bool) -> None:
    async def main() -> tuple[Mapping[Hashable, Reading], int]:
        async with shop() as first, shop() as second, await side_by_side(first, second, attempt=1.0) as sampler:
            second.silent = {VERSIONS}
            if not coordinates:
                del first.elsewhere["accounts"]
            dirty = Request("dirty", "accounts", ("returns", "orders"), read_committed=False)
            return await sampler.sample([ORDERS, RETURNS, dirty]), second.connections

    found, tried = asyncio.run(main())
    assert tried == 1
    assert (found["orders"].gaps, found["orders"].members) == ({}, 2)
    assert set(found["orders"].partitions) == {("orders", 0), ("orders", 1)}
    assert list(found["returns"].gaps) == [Gap.UNREACHABLE if coordinates else Gap.NO_LEADER]
    assert "did not answer within 1 s" in str(found["returns"].gaps)
    assert set(found["dirty"].partitions) == (set() if coordinates else {("orders", 0), ("orders", 1)})


def test_that_members_are_not_known_is_no_gap_and_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    broker = shop()
    caplog.set_level(logging.INFO, "lagscaler.kafka")

    async def thrice(sampler: Sampler) -> list[Reading]:
        found = []
        for silent in ({DESCRIBE_NEW}, {DESCRIBE_NEW}, set()):
            broker.silent = silent
            found.append((await sampler.sample([ORDERS]))["orders"])
        return found

    found = run(broker, thrice, attempt=1.0)
    assert [one.members for one in found] == [None, None, 2]
    assert all(len(one.partitions) == 2 and not one.gaps for one in found)
    told = [one.getMessage() for one in caplog.records if "members" in one.getMessage()]
    assert len(told) == 2
    assert "the members of group workers are not known" in told[0]
    assert "did not answer within 1 s" in told[0]
    assert "the members of group workers are known again" in told[1]


def test_members_of_a_group_that_tells_nothing_at_all_are_not_spoken_of(caplog: pytest.LogCaptureFixture) -> None:
    broker = shop()
    broker.silent = {FETCH}
    assert sampled(broker, ORDERS, attempt=1.0).members is None
    assert "members" not in caplog.text


def test_samples_may_be_taken_at_the_same_time() -> None:
    async def both(sampler: Sampler) -> list[Reading]:
        return [one["orders"] for one in await asyncio.gather(*(sampler.sample([ORDERS]) for _ in range(5)))]

    broker = shop()
    assert all(not one.gaps and len(one.partitions) == 2 for one in run(broker, both))
    assert broker.connections == 1


def test_times_are_asked_for_only_when_they_are_wanted() -> None:
    found = sampled(shop(), Request("orders", "workers", ("orders",), want_times=True))
    assert 7.0 <= (found.partitions["orders", 0].first_unread_at or 0) <= 8.0
    assert found.partitions["orders", 1].first_unread_at is None
    assert sampled(shop(), ORDERS).partitions["orders", 0].first_unread_at is None


def test_times_that_do_not_come_in_time_are_no_gap() -> None:
    broker = shop()

    def last(request: Reader) -> bytes:
        """Answer for starts and ends, and never again."""
        if broker.count(LIST) == 2:
            broker.silent.add(LIST)
        return broker.offsets(request)

    broker.instead[LIST] = last
    found = sampled(broker, Request("orders", "workers", ("orders",), want_times=True), timeout=2.0)
    assert found.gaps == {}
    assert found.partitions["orders", 0].first_unread_at is None
    assert len(found.partitions) == 2


@pytest.mark.parametrize(("reset", "time"), [("earliest", 5.0), ("latest", None), ("none", None)])
def test_without_a_commit_the_first_unread_record_depends_on_where_a_consumer_would_begin(
    reset: str, time: float | None
) -> None:
    request = Request("x", "nobody", ("orders",), offset_reset=reset, want_times=True)  # type: ignore[arg-type]
    assert sampled(shop(), request).partitions["orders", 0].first_unread_at == time


def test_times_of_two_groups_on_one_topic_are_each_their_own() -> None:
    broker = shop()
    broker.commits["slower"] = {("orders", 0): (6, "")}
    requests = [Request(name, name, ("orders",), want_times=True) for name in ("workers", "slower")]

    async def both(sampler: Sampler) -> dict[object, Reading]:
        return dict(await sampler.sample(requests))

    found = run(broker, both)
    one, other = (found[name].partitions["orders", 0].first_unread_at or 0 for name in ("workers", "slower"))
    assert 7.0 <= one <= 8.0
    assert 5.0 <= other <= 6.0
    assert other < one


def test_times_are_asked_for_side_by_side_some_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    under_way, most = 0, 0

    async def slow(_: Logs, offsets: Mapping[TopicPartition, int], *__: object) -> dict[TopicPartition, float]:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        for _ in range(5):
            await asyncio.sleep(0)
        under_way -= 1
        return dict.fromkeys(offsets, 1.0)

    monkeypatch.setattr(sampler, "first_unread_at", slow)
    broker = shop()
    requests = [Request(number, f"group-{number}", ("orders",), want_times=True) for number in range(25)]

    async def all_of_them(sampler: Sampler) -> Mapping[Hashable, Reading]:
        return await sampler.sample(requests)

    found = run(broker, all_of_them)
    assert {one.partitions["orders", 0].first_unread_at for one in found.values()} == {1.0}
    assert most == sampler.LOTS


def test_bootstrap_servers_that_are_none() -> None:
    with pytest.raises(SettingsError, match="cluster main: 'kafka:port' in bootstrapServers is not host:port"):
        Sampler(ClusterSettings("main", "kafka:port"))


@pytest.mark.parametrize("host", ["kafka..svc", "a" * 64 + ".svc"])
def test_a_name_that_is_none_is_a_broker_that_does_not_answer(host: str) -> None:
    async def main() -> Reading:
        async with Sampler(ClusterSettings("main", f"{host}:9092")) as sampler:
            return (await sampler.sample([ORDERS]))["orders"]

    gaps = asyncio.run(main()).gaps
    assert list(gaps) == [Gap.UNREACHABLE]
    assert f"broker {host}:9092 cannot be connected to" in gaps[Gap.UNREACHABLE]


def test_a_broker_that_names_a_port_that_is_none() -> None:
    broker = shop()
    broker.others, broker.leader = {2: 99_999}, 2
    gaps = sampled(broker, ORDERS).gaps
    assert list(gaps) == [Gap.UNREACHABLE]
    assert "broker 127.0.0.1:99999 cannot be connected to" in gaps[Gap.UNREACHABLE]


def test_a_fault_of_ours_is_a_gap_and_logged(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    async def fail(*_: object) -> None:
        raise KeyError("moon")

    monkeypatch.setattr(Logs, "look", fail)
    gaps = sampled(shop(), ORDERS).gaps
    assert gaps == {Gap.OTHER: "the look at cluster main failed by a fault of the operator's (KeyError): see its log"}
    assert "moon" in caplog.text


def test_a_fault_of_ours_about_members_leaves_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object) -> None:
        raise KeyError("moon")

    monkeypatch.setattr(groupview.GroupView, "members", fail)
    found = sampled(shop(), ORDERS)
    assert (found.gaps, found.members, len(found.partitions)) == ({}, None, 2)


def test_foreign_bytes_are_not_taken_for_an_answer() -> None:
    broker = shop()
    broker.raw = {METADATA: b"HTTP/1.1 400 Bad Request"}
    gaps = sampled(broker, ORDERS).gaps
    assert list(gaps) == [Gap.UNREACHABLE]
    assert "does not speak Kafka's protocol" in gaps[Gap.UNREACHABLE]
