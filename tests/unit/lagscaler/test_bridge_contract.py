"""What the operator takes for granted of the bridge, held to the bridge itself: neither imports the other."""

from __future__ import annotations

import shlex
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from lagscaler.controller.cutover import RUNGS, next_step
from lagscaler.controller.requests import LONGEST_NAME, asked, body_of
from lagscaler.resources.cutover import PARTIAL, REQUESTED_BY, STAGES
from taskbridge.comparison.verdict import Verdict, advice
from taskbridge.contrib.django.api import reading
from taskbridge.contrib.django.api.auth import Client
from taskbridge.contrib.django.api.openapi import DOCUMENT
from taskbridge.cutover import PERCENTAGES, Flag, Stage, check_step
from taskbridge.cutover import RUNGS as BRIDGE_RUNGS
from tests.unit.lagscaler.builders import cutover, standing


def test_the_stages_are_the_bridges() -> None:
    assert tuple(str(stage) for stage in Stage) == STAGES
    assert {str(stage) for stage in PERCENTAGES} == PARTIAL
    assert tuple(rung * 100 for rung in RUNGS) == BRIDGE_RUNGS


def reported(stage: Stage, points: int) -> tuple[str, float | None] | None:
    """Return the step that the bridge's report names as the next one; None when it names none."""
    command, _ = advice("s", Verdict.AGREE, str(stage), points)
    match shlex.split(command.removesuffix(" --dry-run")):
        case ["taskbridge", "cutover", "s", to]:
            return to, None
        case ["taskbridge", "cutover", "s", to, "--percent", percent]:
            return to, float(percent)
        case ["taskbridge", "status", "s"]:
            return None
    raise AssertionError(command)


@pytest.mark.parametrize("stage", list(Stage))
@pytest.mark.parametrize("percent", [0, 0.5, 1, 5, 25, 50, 60, 100])
def test_the_next_step_is_the_one_that_the_bridges_report_names_and_the_bridge_has_it(
    stage: Stage, percent: float
) -> None:
    points = round(percent * 100) if stage in PERCENTAGES else 0
    step = next_step(standing(str(stage), points / 100))
    assert step == reported(stage, points)
    if step is not None:
        to, share = step
        check_step(Flag("s", stage, points), Stage(to), round((share or 0) * 100))


SPECS: list[dict[str, Any]] = [
    {"stage": "live", "percent": 10, "override": True, "reason": "r"}, {"stage": "mirror"}, {"hold": True},
    {"kill": True, "reason": "smoke"}, {"kill": True, "hold": True}, {"stage": "mirror", "hold": True},
]  # fmt: skip


@pytest.mark.parametrize("spec", SPECS)
def test_a_request_is_as_the_bridge_describes_it(spec: dict[str, Any]) -> None:
    one = cutover(meta={"annotations": {REQUESTED_BY: "alice"}}, **spec)
    schema = {"$ref": "#/components/schemas/TransitionRequest", "components": DOCUMENT["components"]}
    requests = asked(one)
    assert requests
    for request in requests:
        Draft202012Validator(schema).validate(body_of(one, request, first=request == requests[0]))


@pytest.mark.parametrize("written", ["a\r\nb\tc", "Arrêt\u00a0: doublons", "\u2068a\u200db\u2069", "\x00", "é" * 250])
def test_what_people_paste_is_taken_by_the_bridge(written: str) -> None:
    one = cutover(meta={"annotations": {REQUESTED_BY: written}}, kill=True, reason=written)
    [kill] = asked(one)
    body = body_of(one, kill, first=True)
    assert reading._checked(body) == body
    assert reading._who(Client("operator", may_move=True), body.get("requested_by", ""))
    assert reading.LONGEST["requested_by"] == LONGEST_NAME
