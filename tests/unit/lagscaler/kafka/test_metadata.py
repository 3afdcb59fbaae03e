"""What commit metadata says, and what it says nothing of."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lagscaler.kafka.metadata import NOTHING, Note, read_note
from taskbridge.worker.tracker import PartitionTracker, with_busy


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("v=1;busy=0.42;beyond=3.1.40.2", Note(3, 0.42)),
        ("v=1;busy=0.42;beyond=3.1.40.2\0", Note(3, 0.42)),
        ("v=1;beyond=3.1", Note(1, None)),
        ("v=1;busy=1.00", Note(0, 1.0)),
        ("v=1;beyond=2.5;colour=red;busy=0.5", Note(5, 0.5)),
        ("v=1", NOTHING),
        ("v=1;", NOTHING),
        ("", NOTHING),
        ("v=2;busy=0.42;beyond=3.1", NOTHING),
        ("consumer-7 on host", NOTHING),
        ('{"v": 1}', NOTHING),
        ("v=1;busy=1.01", NOTHING),
        ("v=1;busy=-0.1", NOTHING),
        ("v=1;busy=nan", NOTHING),
        ("v=1;busy=", NOTHING),
        ("v=1;beyond=", NOTHING),
        ("v=1;beyond=3", NOTHING),
        ("v=1;beyond=3.1.4", NOTHING),
        ("v=1;beyond=3.-1", NOTHING),
        ("v=1;beyond=3.+1", NOTHING),
        ("v=1;beyond=3._1", NOTHING),
        ("v=1;beyond=3. 1", NOTHING),
        ("v=1;beyond=3.²", NOTHING),
        ("v=1;beyond=3." + "9" * 5000, NOTHING),
        ("v=1;busy=0.5;beyond=x.y", Note(0, 0.5)),
        ("v=1;" + "x" * 70_000, NOTHING),
    ],
)
def test_what_is_of_the_format_counts_and_all_else_says_nothing(text: str, note: Note) -> None:
    assert read_note(text) == note


@settings(deadline=None)
@given(st.text())
def test_no_text_is_too_strange(text: str) -> None:
    note = read_note("v=1;" + text)
    assert note.beyond >= 0
    assert note.busy is None or 0 <= note.busy <= 1


@settings(deadline=None)
@given(
    st.sets(st.integers(0, 60), max_size=40),
    st.one_of(st.none(), st.floats(0, 1)),
)
def test_it_reads_what_the_worker_writes(finished: set[int], busy: float | None) -> None:
    tracker = PartitionTracker(0)
    for offset in range(61):
        tracker.fetched(offset)
    for offset in finished:
        tracker.finish(offset)
    note = read_note(with_busy(tracker.metadata(), busy))
    assert tracker.watermark() + tracker.unfinished + note.beyond == 61
    assert note.busy == (None if busy is None else pytest.approx(busy, abs=0.005))
