"""Whose a service is, and what others see of the operator's moves."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from lagscaler.bridge.client import RequestRefusedError
from lagscaler.kubernetes.kinds import CUTOVERS
from lagscaler.resources.conditions import condition_of
from lagscaler.resources.reading import Key
from tests.unit.lagscaler.builders import cutover_body
from tests.unit.lagscaler.controller.moving_story import AWAY, Stage, story
from tests.unit.lagscaler.fakes import until

# Whose it is


def test_a_cutover_elsewhere_moves_nothing_and_locks_nobody_out() -> None:
    async def play(one: Stage) -> None:
        await one.wait("InSync", "NothingRequested")
        early = {"namespace": "other", "creationTimestamp": "2025-01-01T00:00:00Z"}
        one.kubernetes.put(CUTOVERS, cutover_body("stranger", stage="off", kill=True, meta=early))

        def said() -> Any:
            status = one.kubernetes.bodies["Cutover", Key("other", "stranger")].get("status") or {}
            return condition_of(status, "BridgeReachable").get("message")

        message = await until(said, "it is told")
        assert message == (
            "the namespace other may not use the bridge 'main'; it may once bridges.main.namespaces of the operator's"
            " settings names it."
        )
        one.kubernetes.change(CUTOVERS, "orders", stage="mirror")
        await one.wait("InSync", "AsRequested")
        assert one.asked() == ["move"]
        stranger = one.kubernetes.bodies["Cutover", Key("other", "stranger")]["status"]
        assert condition_of(stranger, "BridgeReachable")["reason"] == "BridgeUnknown"
        assert "stage" not in stranger

    story(play)


def test_what_met_an_older_one_is_not_asked_for_when_that_goes() -> None:
    async def play(one: Stage) -> None:
        await one.wait("InSync", "AsRequested")
        later = {"creationTimestamp": "2026-02-02T00:00:00Z"}
        one.kubernetes.put(CUTOVERS, cutover_body("second", stage="off", hold=True, meta=later))
        await one.wait("Accepted", "ServiceTaken", "second")
        one.kubernetes.remove(CUTOVERS, "orders")
        refused = await one.wait("Accepted", "Refused", "second")
        assert refused["message"] == (
            "orders was asked for by the older Cutover shop/orders. Ask again with a new spec.reason."
        )
        assert one.asked() == ["move"]
        one.kubernetes.change(CUTOVERS, "second", reason="mine now")
        await one.wait("InSync", "AsRequested", "second")
        assert one.asked() == ["move", "hold", "move"]

    story(play, stage="mirror")


# What others see


def test_series_are_there_before_the_first_request() -> None:
    async def play(one: Stage) -> None:
        await one.wait("InSync", "NothingRequested")
        assert (one.counted("Applied"), one.counted("Refused")) == (0, 0)
        one.bridge.refusal = RequestRefusedError(422, "no")
        one.kubernetes.change(CUTOVERS, "orders", stage="mirror")
        await one.wait("Accepted", "Refused")
        assert (one.counted("Applied"), one.counted("Refused")) == (0, 1)

    story(play)


@pytest.mark.parametrize("where", ["transition", "tell"])
def test_one_that_is_deleted_meanwhile_leaves_no_series(where: str) -> None:
    async def play(one: Stage) -> None:
        await one.wait("InSync", "NothingRequested")
        if where == "tell":
            one.recorder.during.append(lambda: one.kubernetes.remove(CUTOVERS, "orders"))
        else:
            one.bridge.stuck = {"transition"}
        one.kubernetes.change(CUTOVERS, "orders", stage="mirror")
        await until(lambda: one.bridge.moves, "it is under way")
        if where == "transition":
            one.kubernetes.remove(CUTOVERS, "orders")
            one.bridge.stuck = set()
        await until(lambda: one.moving.stage_of("main", "orders") == "mirror", "it is done")
        await one.looked()
        assert 'name="orders"' not in one.metrics.exposition().decode()
        assert not one.kubernetes.world.cutovers

    story(play)


def test_the_operators_own_moves_are_told_to_who_scales() -> None:
    async def play(one: Stage) -> None:
        await one.wait("InSync", "NothingRequested")
        one.seen.clear()
        one.kubernetes.change(CUTOVERS, "orders", stage="mirror")
        await until(lambda: ("main", "orders") in one.seen, "it is told")
        assert one.moving.stage_of("main", "orders") == "mirror"
        one.seen.clear()
        one.kubernetes.change(CUTOVERS, "orders", hold=True)
        await until(lambda: one.status().get("hold"), "it is held")
        assert one.seen == []

    story(play)


def test_other_settings_of_a_bridge_keep_what_is_known() -> None:
    async def play(one: Stage) -> None:
        await one.wait("InSync", "AsRequested")
        one.bridge.unreachable = AWAY
        other = asyncio.create_task(one.moving.follow("main", one.bridge, 0.05))
        await one.looked()
        assert one.moving.stage_of("main", "orders") == "mirror"
        one.moving.drop("main")
        assert one.moving.stage_of("main", "orders") is None
        other.cancel()
        await asyncio.wait({other})

    story(play, stage="mirror")


def test_a_bridge_that_left_the_settings_leaves_no_series() -> None:
    one = Stage()
    one.metrics.bridge_up.labels("main").set(0)
    one.moving.drop("main")
    assert one.metrics.registry.get_sample_value("lagscaler_bridge_up", {"bridge": "main"}) is None
