"""Which request a Cutover makes, and which it does not."""

from __future__ import annotations

from typing import Any

import pytest

from lagscaler.controller.requests import Asked, asked, body_of, settled
from lagscaler.resources.cutover import REQUESTED_BY
from tests.unit.lagscaler.builders import cutover

MIRROR, LIVE = {"stage": "mirror"}, {"stage": "live", "percent": 10}

CASES: list[tuple[str, dict[str, Any] | None, dict[str, Any], Asked | None]] = [
    ("nothing is asked for without a stage", None, {}, None),
    ("a stage from the beginning", None, MIRROR, Asked("move", "mirror", None)),
    ("a percentage goes along", None, LIVE, Asked("move", "live", 10)),
    ("a stage that changes", MIRROR, LIVE, Asked("move", "live", 10)),
    ("a percentage that changes", LIVE, {**LIVE, "percent": 25}, Asked("move", "live", 25)),
    ("a percentage left from before means nothing", LIVE, {"stage": "off", "percent": 10}, Asked("move", "off", None)),
    ("a new reason asks again", {**LIVE, "reason": "a"}, {**LIVE, "reason": "b"}, Asked("move", "live", 10)),
    ("an override asks again", LIVE, {**LIVE, "override": True, "reason": "x"}, Asked("move", "live", 10)),
    ("a stage that is taken away", LIVE, {}, None),
    ("hold", LIVE, {**LIVE, "hold": True}, Asked("hold", None, None)),
    ("hold with a reason moves nothing", LIVE, {**LIVE, "hold": True, "reason": "x"}, Asked("hold", None, None)),
    ("release", {**LIVE, "hold": True}, {**LIVE, "hold": False}, Asked("release", None, None)),
    ("kill", LIVE, {**LIVE, "kill": True}, Asked("kill", None, None)),
    ("kill goes before hold", LIVE, {**LIVE, "kill": True, "hold": True}, Asked("kill", None, None)),
    ("kill again with a new reason", {"kill": True}, {"kill": True, "reason": "x"}, Asked("kill", None, None)),
    ("a kill that is taken back asks for nothing", {**LIVE, "kill": True}, {**LIVE, "kill": False}, None),
    (
        "not even with a new reason",
        {**LIVE, "kill": True, "reason": "smoke"}, {**LIVE, "kill": False, "reason": "over"}, None,
    ),
    ("with a new stage it does", {**LIVE, "kill": True}, MIRROR, Asked("move", "mirror", None)),
    ("a killed one that stays killed", {"kill": True}, {"kill": True}, None),
]  # fmt: skip


@pytest.mark.parametrize(("before", "spec", "expected"), [row[1:] for row in CASES], ids=[row[0] for row in CASES])
def test_what_a_change_asks_for(before: dict[str, Any] | None, spec: dict[str, Any], expected: Asked | None) -> None:
    status = {"request": {"generation": 1, "spec": before}} if before is not None else {}
    one = cutover(status=status, meta={"generation": 2}, **spec)
    assert not settled(one)
    assert asked(one) == expected


def test_what_was_dealt_with_asks_for_nothing_more() -> None:
    one = cutover(status={"request": {"generation": 2, "spec": {}}}, meta={"generation": 2}, stage="mirror")
    assert settled(one)
    assert asked(one) is None


def test_a_superseded_spec_is_compared_with_the_one_that_was_sent() -> None:
    # Generation 2 asked for mirror, and was never sent; generation 3 asks for off, where it was.
    one = cutover(status={"request": {"generation": 1, "spec": {"stage": "off"}}}, meta={"generation": 3}, stage="off")
    assert asked(one) is None


def test_the_request_carries_who_why_and_an_id_of_its_own() -> None:
    one = cutover(
        meta={"generation": 4, "annotations": {REQUESTED_BY: "alice"}},
        stage="live",
        percent=5,
        override=True,
        reason="r",
    )
    request = asked(one)
    assert request is not None
    assert body_of(one, request) == {
        "action": "move", "stage": "live", "percent": 5, "override": True, "reason": "r", "requested_by": "alice",
        "request_id": "uid-orders.4",
    }  # fmt: skip
    plain = cutover(hold=True)
    assert body_of(plain, Asked("hold", None, None)) == {"action": "hold", "reason": "", "request_id": "uid-orders.1"}


def test_a_status_that_cannot_be_read_counts_as_none() -> None:
    one = cutover(status={"request": {"generation": 1, "spec": {"stage": 5}}}, meta={"generation": 2}, stage="mirror")
    assert asked(one) == Asked("move", "mirror", None)
