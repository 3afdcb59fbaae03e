"""One row of the tables is one history of a dispatch, and the class it must fall into."""

from __future__ import annotations

import pytest

from taskbridge.comparison.classes import Class, Judgement, executions, judge, judge_undispatched
from taskbridge.observation import Row
from tests.unit.taskbridge.comparison.rows import (
    NOW,
    copy,
    dispatch,
    ended,
    fold,
    mirrored,
    on_kafka,
    put_aside,
    run,
    to_kafka,
)

YOUNG = NOW - 5.0
HORIZON = 30.0

MIRRORED: list[tuple[str, list[Row], Class]] = [
    ("equal, Celery's run not seen", [mirrored(), copy()], Class.MATCH),
    ("equal, and Celery's arguments too", [mirrored(), copy(), run(args="a4g5")], Class.MATCH),
    ("the run was observed without arguments", [mirrored(), copy(), run(args="")], Class.MATCH),
    ("the copy's arguments have no digest", [mirrored(), copy(args=""), run(args="a4g5")], Class.MATCH),
    ("the same dispatch observed twice", [mirrored(), mirrored(), copy()], Class.MATCH),
    ("an id used twice, each with its copy", [mirrored(), mirrored(seq=2), copy(), copy(seq=2, offset=8)], Class.MATCH),
    ("the copy was read twice", [mirrored(), copy(), copy()], Class.REDELIVERED),
    ("given up at dispatch", [mirrored(copy="lost")], Class.LOST_COPY),
    ("given up and yet arrived", [mirrored(copy="lost"), copy()], Class.MATCH),
    ("not decoded", [mirrored(), copy(decoded=False, resolved=False, bound=False)], Class.MISMATCH),
    ("not resolved", [mirrored(), copy(resolved=False, bound=False)], Class.MISMATCH),
    ("not bound", [mirrored(), copy(bound=False, error="missing a required argument")], Class.MISMATCH),
    ("another body", [mirrored(), copy(body="ffff")], Class.MISMATCH),
    ("other arguments than Celery ran with", [mirrored(), copy(), run(args="0000")], Class.MISMATCH),
    ("one copy of two differs", [mirrored(), mirrored(seq=2), copy(), copy(offset=8, body="ffff")], Class.MISMATCH),
    ("two copies of one dispatch", [mirrored(), copy(), copy(offset=8)], Class.DUPLICATE),
    ("two copies in two partitions", [mirrored(), copy(), copy(partition=1)], Class.DUPLICATE),
    ("never seen", [mirrored(), run()], Class.MISSING_CANDIDATE),
    ("not seen yet", [mirrored(at=YOUNG)], Class.PENDING),
    ("an id used twice, one copy missing", [mirrored(), mirrored(seq=2), copy()], Class.MISSING_CANDIDATE),
    ("executed from Kafka although only mirrored", [mirrored(), copy(), on_kafka()], Class.WRONG_SIDE),
]

EXECUTED: list[tuple[str, list[Row], Class]] = [
    ("on Celery", [dispatch(), run()], Class.EXECUTED),
    ("on Kafka", [to_kafka(), on_kafka()], Class.EXECUTED),
    ("failed, which is an outcome", [to_kafka(), on_kafka(outcome="failure")], Class.EXECUTED),
    ("asked for a retry, which is another dispatch", [to_kafka(), on_kafka(outcome="retry")], Class.EXECUTED),
    ("ignored", [dispatch(), run(outcome="ignored")], Class.EXECUTED),
    ("rejected itself", [dispatch(), run(outcome="rejected")], Class.EXECUTED),
    ("the same run observed twice", [dispatch(), run(), run()], Class.EXECUTED),
    ("given back, then run", [to_kafka(), on_kafka(outcome="requeued"), on_kafka(offset=41)], Class.EXECUTED),
    ("mirrored without a copy", [dispatch(stage="mirror"), run()], Class.EXECUTED),
    ("fell back to Celery", [dispatch(fallback="refused"), run()], Class.EXECUTED),
    ("dead-lettered, then replayed", [to_kafka(), ended("dead", side="kafka"), on_kafka(offset=50)], Class.EXECUTED),
    ("an ambiguous publish that ran once", [to_kafka(ambiguous=1), on_kafka()], Class.EXECUTED),
    ("an id used twice, run twice", [dispatch(), dispatch(seq=2), run(), run(started=NOW - 50)], Class.EXECUTED),
    ("put aside, sent and run", [put_aside(), to_kafka(seq=9, at=NOW - 60), on_kafka()], Class.EXECUTED),
    ("put aside and run, the sending unobserved", [put_aside(), on_kafka()], Class.EXECUTED),
    ("on the other side", [to_kafka(), run()], Class.WRONG_SIDE),
    ("on the other side, from Kafka", [dispatch(), on_kafka()], Class.WRONG_SIDE),
    ("expired on the other side", [dispatch(), ended("expired", side="kafka")], Class.WRONG_SIDE),
    ("on both sides", [to_kafka(), on_kafka(), run()], Class.DUPLICATE),
    ("on both sides after an ambiguous publish", [to_kafka(ambiguous=1), on_kafka(), run()], Class.DUPLICATE),
    ("twice on Celery", [dispatch(), run(), run(started=NOW - 50)], Class.DUPLICATE),
    ("from two records", [to_kafka(), on_kafka(), on_kafka(offset=41)], Class.DUPLICATE),
    (
        "three times with one explanation",
        [to_kafka(ambiguous=1), on_kafka(), on_kafka(offset=41), on_kafka(offset=42)],
        Class.DUPLICATE,
    ),
    ("the record again", [to_kafka(), on_kafka(), on_kafka(started=NOW - 50)], Class.REPEATED),
    ("given back and run again", [to_kafka(), on_kafka(), on_kafka(offset=41, deliveries=1)], Class.REPEATED),
    ("redelivered on Celery", [dispatch(), run(), run(started=NOW - 50, deliveries=1)], Class.REPEATED),
    ("an ambiguous publish", [to_kafka(ambiguous=1), on_kafka(), on_kafka(offset=41)], Class.REPEATED),
    (
        "the relay sent it twice",
        [put_aside(), to_kafka(at=NOW - 59), to_kafka(at=NOW - 58), on_kafka(), on_kafka(offset=41)],
        Class.REPEATED,
    ),
    (
        "an ambiguous publish and its repetition are one repeat, not two",
        [to_kafka(ambiguous=1), to_kafka(seq=5), on_kafka(), on_kafka(offset=41), on_kafka(offset=42)],
        Class.DUPLICATE,
    ),
    ("expired", [dispatch(), ended("expired")], Class.ENDED),
    ("revoked", [dispatch(), ended("revoked")], Class.ENDED),
    ("dead-lettered", [to_kafka(), ended("dead", side="kafka", detail="unknown_task")], Class.ENDED),
    ("discarded by Celery", [dispatch(), ended("rejected", detail="NotRegistered")], Class.ENDED),
    ("never ran", [dispatch()], Class.MISSING),
    ("young", [dispatch(at=YOUNG)], Class.PENDING),
    ("old, but due only now", [dispatch(due=YOUNG)], Class.PENDING),
    ("due long ago", [dispatch(due=NOW - 40)], Class.MISSING),
    ("given back just now", [to_kafka(), on_kafka(outcome="requeued", finished=YOUNG)], Class.PENDING),
    ("given back long ago", [to_kafka(), on_kafka(outcome="requeued")], Class.MISSING),
    ("an id used twice, run once", [dispatch(), dispatch(seq=2), run()], Class.MISSING),
    ("put aside", [put_aside(due=NOW + 600)], Class.DELAYED),
    ("put aside, nobody knows until when", [put_aside()], Class.DELAYED),
    ("put aside and due just now", [put_aside(due=YOUNG)], Class.DELAYED),
    ("put aside, due and forgotten", [put_aside(due=NOW - 40)], Class.MISSING),
    ("put aside and sent just now", [put_aside(due=YOUNG), to_kafka(seq=9, at=YOUNG)], Class.PENDING),
    ("put aside and sent, never run", [put_aside(), to_kafka(seq=9)], Class.MISSING),
]


@pytest.mark.parametrize(("rows", "expected"), [case[1:] for case in MIRRORED], ids=[case[0] for case in MIRRORED])
def test_a_mirrored_dispatch_is_judged_by_its_copy(rows: list[Row], expected: Class) -> None:
    (trace,) = fold(*rows).traces.values()
    assert judge(trace, NOW, HORIZON).verdict is expected


@pytest.mark.parametrize(("rows", "expected"), [case[1:] for case in EXECUTED], ids=[case[0] for case in EXECUTED])
def test_any_other_dispatch_is_judged_by_its_runs(rows: list[Row], expected: Class) -> None:
    (trace,) = fold(*rows).traces.values()
    assert judge(trace, NOW, HORIZON).verdict is expected


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([mirrored(), copy(bound=False, error="bind: missing a required argument")], "not bound: bind: missing a"),
        ([mirrored(), copy(body="ffff")], "body digest ffff, dispatched b0d1"),
        ([mirrored(), copy(), run(args="0000")], "arguments digest a4g5, on celery 0000"),
        ([mirrored(), copy(), copy(offset=8)], "2 copies of 1 sent, at 0/7, 0/8"),
        ([mirrored()], "sent 60 s ago and not seen"),
        ([to_kafka(), run()], "sent to kafka, but success on celery"),
        ([to_kafka(), on_kafka(), on_kafka(offset=41)], "ran 2 times instead of 1 (2 on kafka)"),
        ([dispatch()], "could run for 60 s on celery, and did not run"),
        ([put_aside(due=NOW - 40)], "due 40 s ago and not sent: is the relay running?"),
        ([to_kafka(), ended("dead", side="kafka", detail="unknown_task")], "dead-lettered: unknown_task"),
        ([dispatch(), ended("rejected", detail="NotRegistered")], "discarded by celery: NotRegistered"),
    ],
)
def test_a_breach_says_what_is_wrong(rows: list[Row], words: str) -> None:
    (trace,) = fold(*rows).traces.values()
    judgement = judge(trace, NOW, HORIZON)
    assert judgement.breach
    assert judgement.listed
    assert words in judgement.detail


def test_a_record_whose_executor_died_is_listed_and_no_breach() -> None:
    (trace,) = fold(to_kafka(), ended("dead", side="kafka", detail="worker_lost")).traces.values()
    judgement = judge(trace, NOW, HORIZON)
    assert (judgement.verdict, judgement.reasons) == (Class.ENDED, ("dead",))
    assert judgement.listed
    assert not judgement.breach


@pytest.mark.parametrize(
    ("rows", "reasons"),
    [
        ([to_kafka(), on_kafka(), on_kafka(started=NOW - 50)], ("redelivered",)),
        ([to_kafka(), on_kafka(), on_kafka(offset=41, deliveries=1)], ("given_back",)),
        ([to_kafka(ambiguous=1), on_kafka(), on_kafka(offset=41)], ("ambiguous",)),
        ([put_aside(), to_kafka(), to_kafka(at=NOW - 58), on_kafka(), on_kafka(offset=41)], ("sent_again",)),
    ],
)
def test_a_repeat_names_its_explanation(rows: list[Row], reasons: tuple[str, ...]) -> None:
    (trace,) = fold(*rows).traces.values()
    judgement = judge(trace, NOW, HORIZON)
    assert (judgement.verdict, judgement.reasons, judgement.breach) == (Class.REPEATED, reasons, False)
    assert judgement.listed


@pytest.mark.parametrize(
    ("rows", "breach"),
    [
        ([run()], False),
        ([on_kafka(), on_kafka(started=NOW - 50)], False),
        ([on_kafka(), on_kafka(offset=41)], True),
        ([run(), on_kafka()], True),
        ([run(outcome="requeued"), run()], False),
        ([copy()], False),
    ],
)
def test_without_its_dispatch_a_message_may_still_not_run_twice(rows: list[Row], breach: bool) -> None:
    (trace,) = fold(*rows).traces.values()
    assert (judge_undispatched(trace) is not None) is breach


def judged(*rows: Row) -> Judgement:
    [trace] = fold(*rows).traces.values()
    return judge(trace, NOW, HORIZON)


def test_a_task_that_runs_once_and_was_skipped_ran_once() -> None:
    rows = to_kafka(), on_kafka(once=1), on_kafka(once=2, finished=NOW - 50.0)
    assert judged(*rows) == Judgement(Class.EXECUTED, reasons=("skipped",))


def test_a_skip_stands_for_an_execution_whose_row_was_lost() -> None:
    [trace] = fold(to_kafka(), on_kafka(once=2)).traces.values()
    assert len(executions(trace)) == 1
    assert judged(to_kafka(), on_kafka(once=2)) == Judgement(Class.EXECUTED)


def test_a_skip_answers_a_second_dispatch_under_the_same_id() -> None:
    rows = to_kafka(), to_kafka(seq=2), on_kafka(once=1), on_kafka(once=2, offset=41)
    assert judged(*rows).verdict is Class.EXECUTED


def test_a_task_that_runs_once_may_not_take_effect_twice_whatever_explains_it() -> None:
    judgement = judged(to_kafka(), on_kafka(once=1), on_kafka(once=1, finished=NOW - 50.0))
    assert (judgement.verdict, judgement.breach) == (Class.DUPLICATE, True)
    assert judgement.detail == "is to run once, and took effect 2 times (2 on kafka)"


def test_a_task_that_runs_once_may_fail_and_then_succeed() -> None:
    rows = to_kafka(), on_kafka(once=1, outcome="failure"), on_kafka(once=1, finished=NOW - 50.0)
    assert judged(*rows).verdict is Class.REPEATED
