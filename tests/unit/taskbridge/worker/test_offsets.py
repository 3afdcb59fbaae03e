"""What is committed of how busy a worker is."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from taskbridge.worker.offsets import Offsets
from taskbridge.worker.source import Assigned
from tests.unit.taskbridge.worker.topic import FakeTopic


def offsets(*assigned: Assigned) -> Offsets:
    found = Offsets(FakeTopic(), "shop.orders", "shop.orders")
    found.assign(assigned)
    return found


def commit(found: Offsets) -> dict[int, tuple[int, str]]:
    positions = found.uncommitted()
    if positions:
        found.commit(positions, wait=False)
    return positions


def test_nothing_is_said_before_it_is_known() -> None:
    found = offsets(Assigned(0, 3, ""))
    assert commit(found) == {}
    found.fetched(0, 3)
    assert commit(found) == {}
    tracker = found.fetched(0, 4)
    assert tracker is not None
    tracker.finish(4)
    assert commit(found) == {0: (3, "v=1;beyond=1.1")}


@pytest.mark.parametrize(
    ("busy", "said"),
    [
        # A partition where nothing happens is committed once the fraction has changed enough, and no more often.
        ([0.5], ["v=1;busy=0.50"]),
        ([0.5, 0.52, 0.54, 0.55], ["v=1;busy=0.50", "v=1;busy=0.55"]),
        ([0.5, 0.0, 0.0], ["v=1;busy=0.50", "v=1;busy=0.00"]),
        # Whether it is at work at all is said at once, however little it is: nobody else can tell rest from a stall.
        ([0.03, 0.0, 0.0, 0.02, 0.04, 0.0], ["v=1;busy=0.03", "v=1;busy=0.00", "v=1;busy=0.02", "v=1;busy=0.00"]),
        ([1.0, 1.0, 0.96], ["v=1;busy=1.00"]),
    ],
)
def test_a_quiet_partition_tells_how_busy_its_worker_is(busy: Iterable[float], said: list[str]) -> None:
    found = offsets(Assigned(0, 3, ""))
    texts: list[str] = []
    for share in busy:
        found.busy = share
        texts += [text for _, text in commit(found).values()]
    assert texts == said


def test_what_moves_takes_the_fraction_along() -> None:
    found = offsets(Assigned(0, 0, "v=1;busy=0.90;beyond=1.1"), Assigned(1, 5, "v=1;busy=0.90"))
    found.busy = 0.88
    assert commit(found) == {}, "the member before told nearly the same"
    tracker = found.fetched(0, 0)
    assert tracker is not None
    tracker.finish(0)
    assert found.fetched(0, 1) is None
    assert commit(found) == {0: (2, "v=1;busy=0.88")}
    assert commit(found) == {}


def test_a_commit_that_failed_is_repeated_and_counted() -> None:
    topic = FakeTopic()
    found = Offsets(topic, "shop.orders", "shop.orders")
    found.assign([Assigned(0, 3, "")])
    found.busy = 0.5
    assert commit(found) == {0: (3, "v=1;busy=0.50")}
    topic.failed.add(0)
    assert commit(found) == {0: (3, "v=1;busy=0.50")}
    assert commit(found) == {}
    assert (found.commits, found.failed_commits) == (2, 1)


def test_how_partitions_stand() -> None:
    topic = FakeTopic("ok", "ok", "ok", partition=1)
    found = Offsets(topic, "shop.orders", "shop.orders")
    found.assign([Assigned(1, 0, ""), Assigned(0, 7, "")])
    found.fetched(1, 0, written=1_000.0)
    first, second = found.states()
    assert (first.partition, first.lag, first.behind) == (0, None, 0.0)
    assert (second.partition, second.lag, second.paused) == (1, 3, False)
    assert second.behind > 1_000_000_000
    found.pause()
    assert [one.paused for one in found.states()] == [True, True]
