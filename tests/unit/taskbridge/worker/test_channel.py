"""What goes through the pipe comes out the same."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from taskbridge.worker.channel import (
    STOP,
    Obituary,
    Report,
    Verdict,
    WorkItem,
    dump_batch,
    dump_report,
    load_batch,
    load_report,
)

HEADERS = st.lists(st.tuples(st.text(max_size=8), st.binary(max_size=8)), max_size=3)
OBITUARIES = st.none() | st.builds(Obituary, st.sampled_from(["lost", "timeout"]), st.integers(-15, 255))
ITEMS = st.builds(
    WorkItem,
    st.integers(0, 1023),
    st.none() | st.binary(max_size=20),
    HEADERS,
    st.integers(0, 2**31 - 1),
    st.integers(0, 2**63 - 1),
    OBITUARIES,
)
VERDICTS = st.builds(Verdict, st.integers(-1, 1023), st.sampled_from(["dead", "requeue"]), *[st.text(max_size=9)] * 3)
ROWS = st.lists(st.tuples(st.text(max_size=4), st.integers(), st.floats(allow_nan=False), st.booleans()), max_size=3)
REPORTS = st.builds(Report, st.booleans(), st.lists(VERDICTS, max_size=2), ROWS, st.booleans(), st.text(max_size=9))


@given(st.lists(ITEMS, max_size=4))
@settings(max_examples=50, deadline=None)
def test_batches(items: list[WorkItem]) -> None:
    frame = dump_batch(items)
    assert load_batch(frame) == items
    assert [type(item.obituary) for item in load_batch(frame)] == [type(item.obituary) for item in items]
    assert frame != STOP


@given(REPORTS)
@settings(max_examples=50, deadline=None)
def test_reports(report: Report) -> None:
    found = load_report(dump_report(report))
    assert found == report
    assert all(isinstance(verdict, Verdict) for verdict in found.verdicts)
