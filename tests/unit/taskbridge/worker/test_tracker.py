"""What may be committed, and what is skipped after a restart."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskbridge.worker.tracker import METADATA_MOST, PartitionTracker, busy_of, decode_runs, merge, with_busy


def tracker(committed: int, fetched: range, finished: set[int]) -> PartitionTracker:
    found = PartitionTracker(committed)
    for offset in fetched:
        assert found.fetched(offset)
    for offset in finished:
        found.finish(offset)
    return found


@pytest.mark.parametrize(
    ("committed", "fetched", "finished", "watermark", "metadata"),
    [
        # Nothing yet.
        (7, range(7, 7), set(), 7, ""),
        # Fetched, not finished.
        (7, range(7, 10), set(), 7, ""),
        # All finished: nothing beyond.
        (7, range(7, 10), {7, 8, 9}, 10, ""),
        # The first is not: the two after it stand in the metadata.
        (7, range(7, 10), {8, 9}, 7, "v=1;beyond=1.2"),
        # Alternating.
        (0, range(6), {1, 3, 5}, 0, "v=1;beyond=1.1.1.1.1.1"),
        # What is not finished at the end is left out.
        (0, range(6), {0, 2}, 1, "v=1;beyond=1.1"),
        # Holes of a compacted log, before the first record and between records, are finished.
        (3, range(10, 20, 5), {10}, 15, ""),
        (3, range(10, 20, 5), {15}, 10, "v=1;beyond=1.5"),
    ],
)
def test_what_is_committed(committed: int, fetched: range, finished: set[int], watermark: int, metadata: str) -> None:
    found = tracker(committed, fetched, finished)
    assert (found.watermark(), found.metadata()) == (watermark, metadata)
    assert found.unfinished == len(set(fetched) - finished)


def test_a_record_fetched_again_does_not_run_again() -> None:
    found = tracker(0, range(3), {0})
    assert not found.fetched(1)
    assert found.unfinished == 2


def test_finishing_twice_and_finishing_what_was_never_fetched_change_nothing() -> None:
    found = tracker(0, range(3), {1})
    found.finish(1)
    found.finish(99)
    assert (found.watermark(), found.metadata(), found.unfinished) == (0, "v=1;beyond=1.1", 2)


@pytest.mark.parametrize(
    "metadata",
    [
        "",
        "v=2;beyond=1.2",
        "v=1",
        "v=1;beyond=",
        "v=1;beyond=1",
        "v=1;beyond=1.2.3",
        "v=1;beyond=1.x",
        "v=1;beyond=-1.2",
        "v=1;beyond=1.-2",
        "v=1;beyond=1..2",
        "another client's words",
        "\0\xff",
    ],
)
def test_metadata_that_is_damaged_or_foreign_skips_nothing(metadata: str) -> None:
    found = PartitionTracker(5, metadata)
    assert decode_runs(5, metadata) == []
    assert all(found.fetched(offset) for offset in range(5, 15))
    assert (found.watermark(), found.metadata()) == (5, "")


def test_unknown_fields_of_the_metadata_are_ignored() -> None:
    assert decode_runs(5, "v=1;busy=0.7;beyond=1.2;later=x") == [(6, 8)]


@pytest.mark.parametrize(
    ("intervals", "joined"),
    [
        ([], []),
        ([(1, 2), (4, 5)], [(1, 2), (4, 5)]),
        ([(1, 2), (2, 5)], [(1, 5)]),
        ([(1, 9), (2, 5), (9, 10)], [(1, 10)]),
    ],
)
def test_merge(intervals: list[tuple[int, int]], joined: list[tuple[int, int]]) -> None:
    assert list(merge(intervals)) == joined


class Model:
    """A partition's tracker beside plain sets: what was fetched, finished, and committed last."""

    def __init__(self) -> None:
        self.tracker = PartitionTracker(0)
        self.running: set[int] = set()
        self.finished: set[int] = set()
        self.position = 0

    def fetch(self) -> None:
        if self.tracker.fetched(self.position):
            assert self.position not in self.finished, "a finished record would run again"
            self.running.add(self.position)
        else:
            assert self.position in self.finished, "a record that never finished was skipped"
        self.position += 1

    def finish(self, number: int) -> None:
        if self.running:
            offset = sorted(self.running)[number % len(self.running)]
            self.running.discard(offset)
            self.finished.add(offset)
            self.tracker.finish(offset)

    def restart(self) -> None:
        committed, metadata = self.tracker.watermark(), self.tracker.metadata()
        self.tracker, self.position = PartitionTracker(committed, metadata), committed
        # What was running is cut off.
        self.running.clear()

    def check(self) -> None:
        watermark, metadata = self.tracker.watermark(), self.tracker.metadata()
        assert all(offset >= watermark for offset in self.running), "an unfinished offset would be committed"
        said = {offset for start, end in decode_runs(watermark, metadata) for offset in range(start, end)}
        assert not said & self.running
        assert {offset for offset in self.finished if offset > watermark} <= said | set(range(watermark))
        assert len(metadata) <= METADATA_MOST


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("fetch"), st.just(0)),
        st.tuples(st.just("finish"), st.integers(0, 50)),
        st.tuples(st.just("restart"), st.just(0)),
    ),
    max_size=80,
)


@given(STEPS)
@settings(max_examples=150, deadline=None)
def test_no_order_of_events_passes_what_is_unfinished_or_repeats_what_is_finished(steps: list[tuple[str, int]]) -> None:
    model = Model()
    for name, number in steps:
        if name == "fetch":
            model.fetch()
        elif name == "finish":
            model.finish(number)
        else:
            model.restart()
        model.check()


@given(st.sets(st.integers(0, 60)), st.integers(0, 1_000_000))
@settings(max_examples=80, deadline=None)
def test_what_is_finished_beyond_the_watermark_survives_a_restart(finished: set[int], first: int) -> None:
    before = tracker(first, range(first, first + 61), {first + offset for offset in finished})
    after = PartitionTracker(before.watermark(), before.metadata())
    run_again = {offset - first for offset in range(before.watermark(), first + 61) if after.fetched(offset)}
    assert run_again == set(range(61)) - finished
    assert (after.watermark(), after.metadata()) == (before.watermark(), before.metadata())


def test_metadata_stays_below_what_brokers_refuse_and_forgets_only_the_far_end() -> None:
    finished = set(range(1, 8_000, 2))
    before = tracker(0, range(8_000), finished)
    metadata = before.metadata()
    assert METADATA_MOST - 20 < len(metadata) <= METADATA_MOST
    after = PartitionTracker(0, metadata)
    skipped = {offset for offset in range(8_000) if not after.fetched(offset)}
    assert skipped == {offset for offset in finished if offset <= max(skipped)}


def test_how_many_records_are_left_and_since_when() -> None:
    tracker = PartitionTracker(10, "v=1;beyond=2.3.4.1")
    assert (tracker.left(30), tracker.oldest()) == (20 - 3 - 1, 0.0)
    for offset, written in ((10, 5.0), (11, 6.0), (12, 7.0)):
        tracker.fetched(offset, written)
    assert (tracker.left(30), tracker.oldest()) == (16, 5.0)
    tracker.finish(10)
    assert (tracker.left(30), tracker.oldest()) == (15, 6.0)
    tracker.finish(11)
    assert (tracker.left(30), tracker.oldest()) == (14, 0.0)
    assert tracker.left(5) == 0, "an end that is known from earlier on"


@pytest.mark.parametrize(
    ("metadata", "busy", "text"),
    [
        ("", None, ""),
        ("v=1;beyond=1.2", None, "v=1;beyond=1.2"),
        ("", 0.0, "v=1;busy=0.00"),
        ("v=1;beyond=1.2", 0.426, "v=1;busy=0.43;beyond=1.2"),
    ],
)
def test_how_busy_the_worker_is_stands_beside_what_is_finished(metadata: str, busy: float | None, text: str) -> None:
    assert with_busy(metadata, busy) == text
    assert busy_of(text) == (None if busy is None else round(busy, 2))
    assert decode_runs(5, text) == decode_runs(5, metadata)
    assert PartitionTracker(5, text).metadata() == metadata


@pytest.mark.parametrize(
    "metadata", ["v=1;busy=", "v=1;busy=x", "v=1;busy=nan", "v=1;busy=1.5", "v=2;busy=0.5", "busy"]
)
def test_a_busy_fraction_that_cannot_be_one_is_not_known(metadata: str) -> None:
    assert busy_of(metadata) is None
