"""Cutovers from the API server's dicts, and their CRD."""

from __future__ import annotations

from typing import Any

import pytest

from lagscaler.resources.cutover import REQUESTED_BY, STAGES, Wish, parse_cutover, parse_wish
from lagscaler.resources.reading import InvalidResourceError, Section
from tests.unit.lagscaler.builders import cutover, cutover_body
from tests.unit.lagscaler.crds import completed, definition, schema_of


def test_the_defaults_ask_for_nothing_with_or_without_the_api_server() -> None:
    plain = cutover_body()
    defaulted = {**plain, "spec": completed(definition("cutovers"), plain["spec"])}
    assert defaulted["spec"]["bridge"] == "main"
    assert parse_cutover(plain) == parse_cutover(defaulted)
    assert parse_cutover(plain).wish == Wish()


def test_every_field_reaches_its_place() -> None:
    one = cutover(
        bridge="side", stage="live", percent=12.5, hold=True, kill=True, override=True, reason="r",
        meta={"annotations": {REQUESTED_BY: "alice"}},
    )  # fmt: skip
    assert (one.service, one.bridge, one.requested_by) == ("orders", "side", "alice")
    assert one.wish == Wish("live", 12.5, hold=True, kill=True, override=True, reason="r")


def test_the_stages_are_those_of_the_crd() -> None:
    assert schema_of(definition("cutovers"), "spec")["properties"]["stage"]["enum"] == list(STAGES)


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        (Wish(), ""),
        (Wish("mirror"), "mirror"),
        (Wish("live", 12.5), "live 12.5%"),
        (Wish("live", 10.0, hold=True), "live 10% (hold)"),
        (Wish("live", 10.0, kill=True), "kill"),
        (Wish("live", 10.0, hold=True, kill=True), "kill (hold)"),
    ],
)
def test_what_is_asked_for_in_words(wish: Wish, words: str) -> None:
    assert wish.words == words


@pytest.mark.parametrize("stage", ["off", "mirror", "complete"])
def test_a_percentage_means_nothing_with_other_stages(stage: str) -> None:
    assert cutover(stage=stage, percent=10).wish.percent is None


def test_a_wish_survives_the_status() -> None:
    wish = Wish("shadow", 5.0, hold=True, reason="r")
    kept = {name: value for name, value in wish.document().items() if value is not None}
    assert parse_wish(Section(kept, "spec")) == wish


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"stage": "gone"}, "spec.stage is 'gone'; known are off, mirror"),
        ({"service": ""}, "spec.service must be a text"),
        ({"stage": "live", "percent": "5"}, "spec.percent must be a number"),
        ({"kill": 1}, "spec.kill must be true or false"),
    ],
)
def test_what_no_crd_of_ours_would_let_through_is_told(spec: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidResourceError) as refused:
        cutover(**spec)
    assert words in str(refused.value)


def test_the_columns() -> None:
    columns = definition("cutovers")["spec"]["versions"][0]["additionalPrinterColumns"]
    assert [one["name"] for one in columns if not one.get("priority")] == [
        "Service", "Stage", "Percent", "Requested", "InSync", "By", "Moved", "Verdict", "Reason", "Age",
    ]  # fmt: skip
    assert [one["name"] for one in columns if one.get("priority")] == ["Hold", "Epoch", "Next", "Missing"]
