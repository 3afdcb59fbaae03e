"""Which records an executor is given next, and which have to wait for another of their key."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskbridge.worker.batching import Estimator
from taskbridge.worker.buffer import Arrivals, Buffer, Lanes
from taskbridge.worker.channel import Obituary
from taskbridge.worker.entry import Entry
from taskbridge.worker.executors import PREFETCH_BYTES
from taskbridge.worker.tracker import PartitionTracker
from tests.unit.taskbridge.worker.entries import headers

QUICK = "quick"


def estimator() -> Estimator:
    found = Estimator()
    found.learn(QUICK, 0.000_01)
    return found


@pytest.fixture
def lanes() -> Lanes:
    return Lanes(estimator())


def put(buffer: Buffer, keys: str, partition: int = 0, size: int = 10) -> list[Entry]:
    """Add one record for each letter, which is its key (`-`: none)."""
    tracker = PartitionTracker(0)
    entries = [
        Entry(tracker, partition, offset, None if key == "-" else key.encode(), b"", headers(), QUICK, size)
        for offset, key in enumerate(keys)
    ]
    for entry in entries:
        buffer.add(entry)
    return entries


def shown(entries: list[Entry]) -> str:
    return " ".join(f"{(entry.key or b'-').decode()}{entry.offset}" for entry in entries)


def test_arrivals_go_in_their_order_whatever_their_key() -> None:
    buffer = Arrivals(estimator())
    put(buffer, "abab")
    assert shown(buffer.take(busy=False)) == "a0 b1 a2 b3"
    assert (len(buffer), buffer.size, buffer.ready) == (0, 0, False)


def test_a_key_goes_to_one_executor_and_what_came_later_waits_until_that_has_ended(lanes: Lanes) -> None:
    put(lanes, "aab")
    first = lanes.take(busy=False)
    assert shown(first) == "a0 a1 b2"
    put(lanes, "ac")
    assert shown(lanes.take(busy=False)) == "c1"
    assert (len(lanes), lanes.ready) == (1, False)
    lanes.ended(first[0])
    assert not lanes.ready
    lanes.ended(first[1])
    assert shown(lanes.take(busy=False)) == "a0"


def test_an_unknown_task_goes_alone_and_the_rest_of_its_key_stays(lanes: Lanes) -> None:
    slow = put(lanes, "aab")
    for entry in slow:
        entry.task = "never seen"
    assert shown(lanes.take(busy=False)) == "a0"
    assert shown(lanes.take(busy=False)) == "b2"
    assert (len(lanes), lanes.ready) == (1, False)


def test_what_did_not_begin_is_back_in_its_place(lanes: Lanes) -> None:
    put(lanes, "aaab")
    taken = lanes.take(busy=False)
    put(lanes, "a")
    lanes.put_back(taken[1:])
    assert lanes.ready, "b may go"
    assert shown(lanes.take(busy=False)) == "b3"
    lanes.ended(taken[0])
    assert shown(lanes.take(busy=False)) == "a1 a2 a0"


def test_a_record_whose_executor_died_goes_before_its_key_and_alone(lanes: Lanes) -> None:
    put(lanes, "aab")
    taken = lanes.take(busy=False)
    taken[0].obituary = Obituary("lost", -9)
    lanes.put_back(taken)
    assert shown(lanes.take(busy=False)) == "a0 b2"
    assert not lanes.ready
    # It is to run again: still before the others.
    taken[0].obituary = None
    lanes.put_back([taken[0]])
    assert shown(lanes.take(busy=False)) == "a0 a1"


def test_keys_of_different_partitions_and_records_without_a_key_do_not_wait_for_each_other(lanes: Lanes) -> None:
    put(lanes, "a-", partition=0)
    lanes.take(busy=False)
    put(lanes, "a--", partition=1)
    assert shown(lanes.take(busy=False)) == "a0 -1 -2"


def test_a_busy_executor_gets_no_more_than_its_pipe_holds(lanes: Lanes) -> None:
    put(lanes, "aa", size=PREFETCH_BYTES + 1)
    assert lanes.take(busy=True) == []
    assert shown(lanes.take(busy=False)) == "a0"
    assert lanes.size == PREFETCH_BYTES + 1


def test_forgotten_partitions_leave_what_runs_and_what_is_to_be_settled(lanes: Lanes) -> None:
    old = put(lanes, "aab")
    taken = lanes.take(busy=False)
    taken[1].obituary = Obituary("lost", -9)
    lanes.put_back(taken[1:])
    put(lanes, "c", partition=1)
    lanes.forget({0})
    assert sorted(shown([entry]) for entry in lanes) == ["a1", "c0"]
    # The partition comes back while one of its records still runs here.
    again = put(lanes, "a")
    assert shown(lanes.take(busy=False)) == "c0"
    lanes.ended(old[0])
    assert shown(lanes.take(busy=False)) == "a1"
    lanes.ended(taken[1])
    assert lanes.take(busy=False) == again


def test_what_is_not_ours_any_more_is_dropped_and_its_key_goes_on(lanes: Lanes) -> None:
    taken = [*put(lanes, "a")]
    lanes.take(busy=False)
    taken[0].tracker.active = False
    lanes.put_back(taken)
    assert (len(lanes), lanes.ready) == (0, False)
    put(lanes, "a")
    assert shown(lanes.take(busy=False)) == "a0"


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.sampled_from("abc")),
        st.tuples(st.just("take"), st.just("")),
        st.tuples(st.just("end"), st.sampled_from("012")),
        st.tuples(st.just("die"), st.sampled_from("012")),
    ),
    max_size=60,
)


@given(STEPS)
@settings(max_examples=150, deadline=None)
def test_no_order_of_events_runs_two_of_a_key_at_once_or_out_of_turn(steps: list[tuple[str, str]]) -> None:
    lanes = Lanes(estimator())
    tracker, added = PartitionTracker(0), 0
    batches: list[list[Entry]] = []
    done: dict[bytes, list[int]] = {}
    for name, argument in steps:
        if name == "add":
            lanes.add(Entry(tracker, 0, added, argument.encode(), b"", [], QUICK, 1))
            added += 1
        elif name == "take":
            batches.append(lanes.take(busy=False))
        elif int(argument) < len(batches) and (batch := batches[int(argument)]):
            if name == "die":
                batch[0].obituary = Obituary("lost", -9)
                lanes.put_back(batch)
                batches[int(argument)] = []
            else:
                entry = batch.pop(0)
                done.setdefault(entry.key or b"", []).append(entry.offset)
                lanes.ended(entry)
        running = [{entry.key for entry in batch} for batch in batches if batch]
        assert sum(map(len, running)) == len(frozenset().union(*running)), "a key is with two executors"
        assert len(lanes) + sum(map(len, batches)) + sum(map(len, done.values())) == added
        assert lanes.size == len(lanes)
    for offsets in done.values():
        assert offsets == sorted(offsets)
