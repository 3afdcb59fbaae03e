"""What the operator takes for granted of the bridge, held to the bridge itself: neither imports the other."""

from __future__ import annotations

from typing import Any

import pytest
from jsonschema import Draft202012Validator

from lagscaler.controller.cutover import RUNGS, next_step
from lagscaler.controller.requests import asked, body_of
from lagscaler.resources.cutover import PARTIAL, REQUESTED_BY, STAGES
from taskbridge.contrib.django.api.openapi import DOCUMENT
from taskbridge.cutover import PERCENTAGES, Flag, Stage, next_steps
from taskbridge.cutover import RUNGS as BRIDGE_RUNGS
from tests.unit.lagscaler.builders import cutover, standing


def test_the_stages_are_the_bridges() -> None:
    assert tuple(str(stage) for stage in Stage) == STAGES
    assert {str(stage) for stage in PERCENTAGES} == PARTIAL
    assert tuple(rung * 100 for rung in RUNGS) == BRIDGE_RUNGS


@pytest.mark.parametrize("stage", list(Stage))
@pytest.mark.parametrize("percent", [0, 0.5, 1, 5, 25, 50, 60, 100])
def test_the_next_step_is_one_that_the_bridge_has(stage: Stage, percent: float) -> None:
    points = round(percent * 100) if stage in PERCENTAGES else 0
    steps = [
        (str(to), basis / 100 if to in PERCENTAGES else None) for to, basis in next_steps(Flag("s", stage, points))
    ]
    assert next_step(standing(str(stage), points / 100)) == (steps[0] if steps else None)


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
