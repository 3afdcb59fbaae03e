from __future__ import annotations

from taskbridge.comparison import Fold
from taskbridge.observation import Batch
from taskbridge.record import Identity
from tests.unit.taskbridge.comparison.rows import batches, copy, dispatch, fold, mirrored, put_aside, run, to_kafka


def test_rows_are_joined_on_id_retries_and_nesting() -> None:
    folded = fold(dispatch(), dispatch(retries=1, seq=2), dispatch(nesting=1, seq=3), run(retries=1), run(nesting=1))
    assert set(folded.traces) == {Identity("a1", 0, 0), Identity("a1", 1, 0), Identity("a1", 0, 1)}
    assert [len(trace.runs) for trace in folded.traces.values()] == [0, 1, 1]
    assert folded.dispatched == 3


def test_a_message_put_aside_and_sent_is_one_dispatch() -> None:
    folded = fold(put_aside(), to_kafka(seq=9))
    assert folded.dispatched == 1
    (trace,) = folded.traces.values()
    assert trace.last_sending().route == "kafka"


def test_a_row_that_says_the_same_again_is_counted_and_dropped() -> None:
    folded = fold(dispatch(), dispatch(), run(), run(), run())
    assert folded.rows == {"dispatch": 2, "run": 3}
    assert folded.repeated == {"dispatch": 1, "run": 2}


def test_a_hole_in_a_producers_numbering_is_an_unobserved_dispatch() -> None:
    folded = Fold("orders")
    for source, numbers in (("web:1:aa", (1, 2, 5)), ("web:2:bb", (7, 8))):
        for number in numbers:
            rows = (dispatch(id=f"{source}/{number}", seq=number),)
            folded.add(Batch("dispatch", "orders", source, rows))
    assert folded.unobserved_dispatches() == 2


def test_a_hole_between_the_offsets_of_copies_is_an_unobserved_copy() -> None:
    folded = fold(mirrored(), copy(offset=7), copy(id="a2", offset=10), copy(id="a3", partition=1, offset=50))
    assert folded.unobserved_copies() == 2


def test_a_pattern_leaves_other_tasks_out_and_keeps_their_numbers() -> None:
    rows = [dispatch(seq=1), dispatch(id="b", seq=2, task="shop.orders.tasks.cancel"), dispatch(id="c", seq=3)]
    folded = fold(*rows, task="*.place")
    assert folded.dispatched == 2
    assert folded.unobserved_dispatches() == 0


def test_batches_may_hold_many_rows() -> None:
    one_by_one, together = fold(dispatch(), dispatch(id="b", seq=2)), Fold("orders")
    rows = [batch.rows[0] for batch in batches([dispatch(), dispatch(id="b", seq=2)])]
    together.add(Batch("dispatch", "orders", "web:1:aa", rows))
    assert together.dispatched == one_by_one.dispatched == 2
