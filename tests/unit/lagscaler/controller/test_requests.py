"""Which request a Cutover makes, and which it does not."""

from __future__ import annotations

from typing import Any

import pytest

from lagscaler.bridge.client import RequestRefusedError
from lagscaler.controller.cutover import refused
from lagscaler.controller.requests import Asked, asked, basis, body_of, settled
from lagscaler.resources.cutover import REQUESTED_BY, Wish
from tests.unit.lagscaler.builders import cutover

MIRROR, LIVE = {"stage": "mirror"}, {"stage": "live", "percent": 10}
HELD, KILLED = {**LIVE, "hold": True}, {**LIVE, "kill": True}
TO_MIRROR, TO_LIVE, TO_OFF = Asked("move", "mirror", None), Asked("move", "live", 10), Asked("move", "off", None)
HOLD, RELEASE, KILL = Asked("hold"), Asked("release"), Asked("kill")

CASES: list[tuple[str, dict[str, Any] | None, dict[str, Any], tuple[Asked, ...]]] = [
    ("nothing is asked for without a stage", None, {}, ()),
    ("a stage from the beginning", None, MIRROR, (TO_MIRROR,)),
    ("a percentage goes along", None, LIVE, (TO_LIVE,)),
    ("a stage that changes", MIRROR, LIVE, (TO_LIVE,)),
    ("a percentage that changes", LIVE, {**LIVE, "percent": 25}, (Asked("move", "live", 25),)),
    ("a percentage left from before means nothing", LIVE, {"stage": "off", "percent": 10}, (TO_OFF,)),
    ("a new reason asks again", {**LIVE, "reason": "a"}, {**LIVE, "reason": "b"}, (TO_LIVE,)),
    ("an override asks again", LIVE, {**LIVE, "override": True, "reason": "x"}, (TO_LIVE,)),
    ("a stage that is taken away", LIVE, {}, ()),
    ("hold", LIVE, HELD, (HOLD,)),
    ("hold with a reason moves nothing", LIVE, {**HELD, "reason": "x"}, (HOLD,)),
    ("hold, and the way back", LIVE, {"stage": "off", "hold": True}, (HOLD, TO_OFF)),
    ("hold and a stage from the beginning", None, HELD, (HOLD, TO_LIVE)),
    ("release", HELD, {**LIVE, "hold": False}, (RELEASE,)),
    ("release with a reason moves nothing", HELD, {**LIVE, "reason": "x"}, (RELEASE,)),
    ("release, and a step", {**MIRROR, "hold": True}, LIVE, (RELEASE, TO_LIVE)),
    ("kill", LIVE, KILLED, (KILL,)),
    ("kill goes before hold", LIVE, {**KILLED, "hold": True}, (KILL, HOLD)),
    ("kill goes before release", HELD, KILLED, (KILL, RELEASE)),
    ("a kill asks for no stage", LIVE, {**MIRROR, "kill": True}, (KILL,)),
    ("kill again with a new reason", {"kill": True}, {"kill": True, "reason": "x"}, (KILL,)),
    ("hold after a kill does not kill again", KILLED, {**KILLED, "hold": True}, (HOLD,)),
    ("a kill that is taken back asks for nothing", KILLED, {**LIVE, "kill": False}, ()),
    ("not even with a new reason", {**KILLED, "reason": "smoke"}, {**LIVE, "kill": False, "reason": "over"}, ()),
    ("with a new stage it does", KILLED, MIRROR, (TO_MIRROR,)),
    ("a killed one that stays killed", {"kill": True}, {"kill": True}, ()),
]


@pytest.mark.parametrize(("generation", "expected"), [(6, ()), (7, (KILL,))])
def test_a_kill_that_was_taken_back_and_asked_for_anew_unseen_is_asked_for(
    generation: int, expected: tuple[Asked, ...]
) -> None:
    status = {"request": {"generation": 5, "spec": KILLED}}
    assert asked(cutover(status=status, meta={"generation": generation}, **KILLED)) == expected
    kept = {"request": {"generation": 5, "spec": LIVE}}
    assert asked(cutover(status=kept, meta={"generation": generation}, **LIVE)) == ()


@pytest.mark.parametrize(("before", "spec", "expected"), [row[1:] for row in CASES], ids=[row[0] for row in CASES])
def test_what_a_change_asks_for(
    before: dict[str, Any] | None, spec: dict[str, Any], expected: tuple[Asked, ...]
) -> None:
    status = {"request": {"generation": 1, "spec": before}} if before is not None else {}
    one = cutover(status=status, meta={"generation": 2}, **spec)
    assert not settled(one)
    assert asked(one) == expected


UNANSWERED: list[tuple[str, dict[str, Any], list[dict[str, Any]], dict[str, Any], tuple[Asked, ...]]] = [
    ("back to where it was asked to be before", MIRROR, [LIVE], MIRROR, (TO_MIRROR,)),
    ("a hold that is taken back", MIRROR, [{**MIRROR, "hold": True}], MIRROR, (RELEASE,)),
    ("a hold that is added", MIRROR, [LIVE], HELD, (HOLD, TO_LIVE)),
    ("the same again", MIRROR, [LIVE], LIVE, (TO_LIVE,)),
    ("further back, with another between", MIRROR, [LIVE, MIRROR], {**MIRROR, "hold": True}, (HOLD, TO_MIRROR)),
    ("a kill, repeated", LIVE, [KILLED], KILLED, (KILL,)),
    ("a kill that is taken back asks for nothing", LIVE, [KILLED], {**LIVE, "reason": "over"}, ()),
    ("nor does it go where it was sent before the kill", MIRROR, [LIVE, KILLED], LIVE, ()),
    ("with a new stage it does", LIVE, [KILLED], MIRROR, (TO_MIRROR,)),
    ("nonsense in the status counts as nothing", MIRROR, [{"stage": 5}], MIRROR, (TO_MIRROR,)),
]


@pytest.mark.parametrize(
    ("before", "sent", "spec", "expected"), [row[1:] for row in UNANSWERED], ids=[row[0] for row in UNANSWERED]
)
def test_what_was_sent_without_an_answer_may_have_been_carried_out_or_not(
    before: dict[str, Any], sent: list[dict[str, Any]], spec: dict[str, Any], expected: tuple[Asked, ...]
) -> None:
    one = cutover(status={"request": {"generation": 1, "spec": before, "sent": sent}}, meta={"generation": 5}, **spec)
    assert asked(one) == expected


def test_what_was_dealt_with_asks_for_nothing_more() -> None:
    one = cutover(status={"request": {"generation": 2, "spec": {}}}, meta={"generation": 2}, stage="mirror")
    assert settled(one)
    assert asked(one) == ()


def test_a_superseded_spec_is_compared_with_the_one_that_was_sent() -> None:
    # Generation 2 asked for mirror, and was never sent; generation 3 asks for off, where it was.
    one = cutover(status={"request": {"generation": 1, "spec": {"stage": "off"}}}, meta={"generation": 3}, stage="off")
    assert asked(one) == ()


def test_the_request_carries_who_why_and_an_id_of_its_own() -> None:
    one = cutover(
        meta={"generation": 4, "annotations": {REQUESTED_BY: "alice"}},
        stage="live",
        percent=5,
        override=True,
        hold=True,
        reason="r",
    )
    hold, move = asked(one)
    assert body_of(one, hold, first=True) == {
        "action": "hold", "reason": "r", "requested_by": "alice", "request_id": "uid-orders.4",
    }  # fmt: skip
    assert body_of(one, move, first=False) == {
        "action": "move", "stage": "live", "percent": 5, "override": True, "reason": "r", "requested_by": "alice",
        "request_id": "uid-orders.4.move",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("written", "reason", "requested_by"),
    [
        ("plain", "plain", "plain"),
        ("Arrêt\u00a0: doublons", "Arrêt : doublons", "Arrêt : doublons"),
        ("a\r\n\tb", "a \n\tb", "a   b"),
        ("\u2068a\u200db\u2069", " a b ", "a b"),
        ("\u200d", " ", None),
        ("é" * 250, "é" * 250, "é" * 200),
    ],
)
def test_what_the_bridge_does_not_take_in_a_text_becomes_a_space(
    written: str, reason: str, requested_by: str | None
) -> None:
    one = cutover(meta={"annotations": {REQUESTED_BY: written}}, kill=True, reason=written)
    body = body_of(one, KILL, first=True)
    assert (body["reason"], body.get("requested_by")) == (reason, requested_by)


@pytest.mark.parametrize(
    ("undone", "expected"),
    [
        (HOLD, Wish("mirror", None, reason="b")),
        (TO_LIVE, Wish("live", 10, hold=True, reason="b")),
    ],
)
def test_what_was_not_carried_out_can_be_asked_again(undone: Asked, expected: Wish) -> None:
    status = {"request": {"generation": 1, "spec": {**MIRROR, "reason": "a"}}}
    one = cutover(status=status, meta={"generation": 2}, **HELD, reason="b")
    wanted = asked(one)
    assert wanted == (HOLD, TO_LIVE)
    assert basis(one, wanted[wanted.index(undone) :]) == expected


@pytest.mark.parametrize(
    ("sent", "wish", "next_one"),
    [
        ({**MIRROR, "hold": True}, MIRROR, (RELEASE,)),
        ({"stage": "live", "percent": 10}, {**MIRROR, "hold": True}, (HOLD, TO_MIRROR)),
    ],
)
def test_what_got_no_answer_is_not_forgotten_over_a_refusal(
    sent: dict[str, Any], wish: dict[str, Any], next_one: tuple[Asked, ...]
) -> None:
    status = {"request": {"generation": 1, "spec": MIRROR, "sent": [sent]}}
    one = cutover(status=status, meta={"generation": 3}, **wish)
    answer = refused(one, [], asked(one), RequestRefusedError(400, "it may not be"), 0.0)
    after = cutover(status={"request": answer}, meta={"generation": 4}, **wish, reason="now")
    assert asked(after) == next_one


def test_a_status_that_cannot_be_read_counts_as_none() -> None:
    one = cutover(status={"request": {"generation": 1, "spec": {"stage": 5}}}, meta={"generation": 2}, stage="mirror")
    assert asked(one) == (TO_MIRROR,)
