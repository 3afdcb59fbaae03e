from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskbridge.comparison import Fold, Question, build, to_json
from taskbridge.comparison.document import SCHEMA
from taskbridge.cutover import Flag, Stage
from taskbridge.observation import Batch, CopyRow, DispatchRow, Row, RunRow
from tests.unit.taskbridge.comparison.rows import (
    NOW,
    batches,
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

GOLDEN = Path(__file__).with_name("report.json")

STORY: list[Row] = [
    mirrored(id="m1", key="m1", seq=1, epoch=1),
    copy(id="m1", seq=1, epoch=1),
    run(id="m1", args="a4g5"),
    mirrored(id="m2", key="m2", seq=2, epoch=1),
    copy(id="m2", seq=2, offset=8, epoch=1, bound=False, error="bind: missing a required argument: 'order'"),
    mirrored(id="m3", key="m3", seq=3, epoch=1, copy="lost"),
    run(id="m3"),
    to_kafka(id="l1", key="order-1", seq=4, epoch=2),
    on_kafka(id="l1", outcome="retry", started=NOW - 59.9, finished=NOW - 59.7),
    to_kafka(id="l1", key="order-1", seq=5, epoch=2, retries=1, at=NOW - 59),
    on_kafka(id="l1", retries=1, offset=41, started=NOW - 58.5, finished=NOW - 58),
    to_kafka(id="l2", key="order-2", seq=6, epoch=2, ambiguous=1),
    on_kafka(id="l2", offset=42, started=NOW - 58.5, finished=NOW - 58),
    on_kafka(id="l2", offset=43, started=NOW - 58, finished=NOW - 57),
    dispatch(id="l3", key="order-3", seq=8, epoch=2, fallback="breaker"),
    put_aside(id="l4", key="order-4", seq=9, epoch=2, due=NOW + 60),
    put_aside(id="l5", key="order-5", seq=10, epoch=2, due=NOW - 40),
    to_kafka(id="l5", key="order-5", seq=10, epoch=3, at=NOW - 39.9, due=NOW - 40),
    on_kafka(id="l5", offset=44, started=NOW - 39.8, finished=NOW - 39.6),
    to_kafka(id="l6", key="order-6", seq=11, epoch=3, task="shop.orders.tasks.cancel"),
    ended("dead", id="l6", side="kafka", partition=1, offset=3, task="shop.orders.tasks.cancel", detail="unknown_task"),
    run(id="u1"),
]


def service(rows: list[Row], **question: Any) -> dict[str, Any]:
    document = build([fold(*rows)], Question(NOW, **question), {})
    return dict(document["services"][0])


def test_the_golden_document() -> None:
    """To accept a change of the document on purpose, write `to_json(document)` to the file, and raise its version."""
    flags = {"orders": Flag("orders", Stage.LIVE, 1000, epoch=3, version=7)}
    document = build([fold(*STORY)], Question(NOW, since=NOW - 3600, malformed=2), flags)
    assert json.loads(to_json(document)) == json.loads(GOLDEN.read_text())
    assert to_json(document) + "\n" == GOLDEN.read_text()


def test_order_and_batches_do_not_matter() -> None:
    expected = to_json(build([fold(*STORY)], Question(NOW), {}))
    for seed in range(20):
        rows = STORY.copy()
        random.Random(seed).shuffle(rows)
        assert to_json(build([fold(*rows)], Question(NOW), {})) == expected


def test_every_dispatch_has_one_class_and_traffic_adds_up() -> None:
    found = service(STORY)
    assert found["dispatched"] == 10
    assert found["mirrored"]["dispatched"] == sum(found["mirrored"]["classes"].values()) == 3
    assert found["executed"]["dispatched"] == sum(found["executed"]["classes"].values()) == 7
    assert sum(row["dispatched"] for row in found["traffic"]) == 10


def test_a_message_put_aside_counts_where_it_was_sent() -> None:
    found = service([put_aside(epoch=2), to_kafka(epoch=5), on_kafka()])
    assert found["traffic"] == [{"stage": "live", "epoch": 5, "route": "kafka", "dispatched": 1}]


def test_a_run_without_its_dispatch_stands_apart() -> None:
    found = service([dispatch(), run(), run(id="stranger"), copy(id="copied")])
    assert found["dispatched"] == 1
    assert found["verdict"] == "AGREE"
    assert found["evidence"]["undispatched"] == {"identities": 2, "with_runs": 1, "with_copies": 1, "duplicates": 0}


def test_a_run_without_its_dispatch_that_ran_twice_is_a_breach() -> None:
    found = service([dispatch(), run(), run(id="stranger"), on_kafka(id="stranger")])
    assert found["verdict"] == "DISAGREE"
    assert [finding["id"] for finding in found["findings"]] == ["stranger"]


def test_a_lost_dispatch_observation_is_made_up_for_by_its_run() -> None:
    rows = [dispatch(seq=1), run(), dispatch(id="a3", seq=3), run(id="a3")]
    assert service(rows)["verdict"] == "INSUFFICIENT"
    assert service(rows)["evidence"]["unaccounted_dispatches"] == 1
    assert service([*rows, run(id="a2")])["verdict"] == "AGREE"


def test_with_a_pattern_holes_in_the_numbering_are_nobodys() -> None:
    rows = [dispatch(seq=1), run(), dispatch(id="a3", seq=3), run(id="a3")]
    document = build([fold(*rows, task="*.place")], Question(NOW, task="*.place"), {})
    assert document["verdict"] == "AGREE"
    assert document["services"][0]["evidence"]["unaccounted_dispatches"] is None


def test_dispatches_that_were_lost_while_counting_make_the_report_invalid() -> None:
    folded = fold(*STORY)
    folded.traces.popitem()
    folded.traces.popitem()
    document = build([folded], Question(NOW), {})
    assert (document["verdict"], document["invalid"], document["exit_code"]) == ("INVALID", True, 4)


def test_durations_stand_side_by_side() -> None:
    rows = [
        dispatch(id="c", at=NOW - 60),
        run(id="c", started=NOW - 59.5, finished=NOW - 59),
        to_kafka(id="k", at=NOW - 60),
        on_kafka(id="k", started=NOW - 59.75, finished=NOW - 59.5),
    ]
    (task,) = service(rows)["tasks"]
    assert task["celery"]["execution"]["p50"] == 0.5
    assert task["kafka"]["execution"]["p50"] == 0.25
    assert task["celery"]["wait"]["max"] == 0.5
    assert task["kafka"]["wait"]["max"] == 0.25
    assert task["celery"]["outcomes"] == task["kafka"]["outcomes"] == {"success": 1}


def test_waiting_begins_when_the_message_is_due() -> None:
    (task,) = service([dispatch(due=NOW - 50), run(started=NOW - 49, finished=NOW - 48)])["tasks"]
    assert task["celery"]["wait"]["max"] == 1.0


def test_clocks_that_disagree_do_not_make_negative_durations() -> None:
    (task,) = service([dispatch(), run(started=NOW - 61, finished=NOW - 62)])["tasks"]
    assert task["celery"]["wait"]["max"] == 0.0
    assert task["celery"]["execution"]["max"] == 0.0


def test_findings_are_bounded_and_breaches_come_first() -> None:
    rows: list[Row] = []
    for number in range(6):
        rows += [to_kafka(id=f"r{number}", seq=2 * number), dispatch(id=f"x{number}", seq=2 * number + 1)]
        rows += [on_kafka(id=f"r{number}"), on_kafka(id=f"r{number}", started=NOW - 40)]
    found = service(rows, limit=8)
    assert found["findings_total"] == 12
    assert [finding["breach"] for finding in found["findings"]] == [True] * 6 + [False] * 2
    assert service(rows, limit=0)["findings"] == []


def test_the_worst_service_decides() -> None:
    agreeing, other = Fold("payments"), fold(dispatch())
    for batch in batches([dispatch(), run()]):
        agreeing.add(Batch(batch.kind, "payments", batch.source, batch.rows))
    document = build([agreeing, other], Question(NOW), {})
    assert [found["service"] for found in document["services"]] == ["orders", "payments"]
    assert [found["verdict"] for found in document["services"]] == ["DISAGREE", "AGREE"]
    assert (document["verdict"], document["exit_code"]) == ("DISAGREE", 1)


@pytest.mark.parametrize(
    ("flag", "stage", "percent", "epoch"),
    [
        (Flag("orders", Stage.LIVE, 2500, 9, 9), "live", 25.0, 9),
        (Flag("orders", Stage.OFF, 0, 10, 10), "off", 0.0, 10),
        (None, "live", None, 3),
    ],
)
def test_the_stage_is_the_flags_or_else_the_last_one_seen(
    flag: Flag | None, stage: str, percent: float | None, epoch: int
) -> None:
    document = build([fold(mirrored(epoch=2), dispatch(id="b"))], Question(NOW), {"orders": flag} if flag else {})
    (found,) = document["services"]
    assert (found["stage"], found["percent"], found["epoch"]) == (stage, percent, epoch)


def test_the_schema_is_named() -> None:
    assert build([Fold("orders")], Question(NOW), {})["schema"] == SCHEMA == "taskbridge.report/1"


IDS = st.sampled_from(["a", "b", "c"])
SMALL = st.integers(0, 2)
MOMENTS = st.sampled_from([0.0, NOW - 100, NOW - 20, NOW - 1, NOW + 50])
TASKS = st.sampled_from(["t.one", "t.two"])
ROWS = st.one_of(
    st.builds(
        DispatchRow,
        id=IDS,
        retries=SMALL,
        nesting=st.just(0),
        task=TASKS,
        key=IDS,
        route=st.sampled_from(["celery", "kafka", "delayed"]),
        epoch=SMALL,
        seq=st.integers(1, 6),
        at=MOMENTS,
        copy=st.sampled_from(["none", "sent", "lost"]),
        body=st.sampled_from(["b1", "b2"]),
        stage=st.sampled_from(["mirror", "live"]),
        ambiguous=st.integers(0, 1),
        fallback=st.sampled_from(["", "refused"]),
        due=MOMENTS,
    ),
    st.builds(
        RunRow,
        id=IDS,
        retries=SMALL,
        nesting=st.just(0),
        task=TASKS,
        side=st.sampled_from(["celery", "kafka"]),
        outcome=st.sampled_from(["success", "failure", "retry", "revoked", "expired", "requeued", "dead"]),
        started=MOMENTS,
        finished=MOMENTS,
        partition=st.integers(-1, 1),
        offset=st.integers(-1, 3),
        deliveries=st.integers(0, 1),
        args=st.sampled_from(["", "g1", "g2"]),
        detail=st.sampled_from(["", "worker_lost", "malformed"]),
    ),
    st.builds(
        CopyRow,
        id=IDS,
        retries=SMALL,
        nesting=st.just(0),
        task=TASKS,
        epoch=SMALL,
        producer=st.just("p"),
        seq=st.integers(1, 6),
        partition=st.integers(0, 1),
        offset=st.integers(0, 3),
        decoded=st.booleans(),
        resolved=st.booleans(),
        bound=st.booleans(),
        body=st.sampled_from(["b1", "b2"]),
        args=st.sampled_from(["", "g1", "g2"]),
        error=st.sampled_from(["", "bind"]),
    ),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(ROWS, max_size=25), st.randoms(use_true_random=False))
def test_whatever_was_observed_the_classes_add_up_in_any_order(rows: list[Row], order: random.Random) -> None:
    document = build([fold(*rows)], Question(NOW), {})
    (found,) = document["services"]
    dispatched = len({(row.id, row.retries) for row in rows if isinstance(row, DispatchRow)})
    classes = [*found["mirrored"]["classes"].values(), *found["executed"]["classes"].values()]
    assert found["dispatched"] == dispatched == sum(classes)
    assert not document["invalid"]

    shuffled = rows.copy()
    order.shuffle(shuffled)
    assert to_json(build([fold(*shuffled)], Question(NOW), {})) == to_json(document)


@settings(max_examples=100, deadline=None)
@given(st.lists(ROWS, max_size=20), st.integers(0, 19))
def test_dispatches_and_runs_observed_twice_change_no_class(rows: list[Row], index: int) -> None:
    again = [row for row in rows[index : index + 1] if not isinstance(row, CopyRow)]
    (once,) = build([fold(*rows)], Question(NOW), {})["services"]
    (twice,) = build([fold(*rows, *again)], Question(NOW), {})["services"]
    for part in ("dispatched", "mirrored", "executed", "tasks", "verdict", "findings"):
        assert once[part] == twice[part]
