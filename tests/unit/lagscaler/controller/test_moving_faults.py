"""What becomes of requests to a bridge that is away, slow or loses its answers; and what must not wait for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from lagscaler.bridge.client import Done, Standing
from lagscaler.controller import moving, process
from lagscaler.kubernetes.kinds import CUTOVERS
from lagscaler.resources.reading import Key
from tests.unit.lagscaler.builders import cutover_body
from tests.unit.lagscaler.controller.moving_story import AWAY, Stage, story
from tests.unit.lagscaler.fakes import FakeBridge, until

# Requests without an answer


LIVE = {"stage": "live", "percent": 10}


def test_what_was_carried_out_without_an_answer_is_taken_back() -> None:
    async def play(one: Stage) -> None:
        await one.wait("InSync", "AsRequested")
        one.bridge.lost = AWAY
        one.kubernetes.change(CUTOVERS, "orders", **LIVE)
        await one.wait("BridgeReachable", "BridgeUnreachable")
        assert one.bridge.standing.stage == "live"
        assert [sent["stage"] for sent in one.status()["request"]["sent"]] == ["live"]
        one.kubernetes.change(CUTOVERS, "orders", stage="mirror")
        await until(lambda: one.bridge.standing.stage == "mirror", "it is taken back")
        assert [sent["stage"] for sent in one.status()["request"]["sent"]] == ["live", "mirror"]
        one.bridge.lost = None
        await one.wait("InSync", "AsRequested")
        await until(lambda: "sent" not in one.status()["request"], "the answer is there")
        assert one.status()["stage"] == "mirror"

    story(play, stage="mirror")


def test_a_hold_without_an_answer_is_taken_back() -> None:
    async def play(one: Stage) -> None:
        await one.wait("InSync", "AsRequested")
        one.bridge.lost = AWAY
        one.kubernetes.change(CUTOVERS, "orders", hold=True)
        await one.wait("BridgeReachable", "BridgeUnreachable")
        assert one.bridge.standing.hold
        one.bridge.lost = None
        one.kubernetes.change(CUTOVERS, "orders", hold=False)
        await until(lambda: not one.bridge.standing.hold, "it is released")
        assert one.asked() == ["move", "hold", "release"]
        await one.wait("InSync", "AsRequested")

    story(play, stage="mirror")


def test_after_a_restart_too() -> None:
    async def whole() -> None:
        one = Stage()
        one.kubernetes.put(CUTOVERS, cutover_body(stage="mirror"))
        async with one.running():
            await one.wait("InSync", "AsRequested")
            one.bridge.stuck = {"transition"}
            one.kubernetes.change(CUTOVERS, "orders", **LIVE)
            # It is known before there could be an answer: the process may end at any time.
            await until(lambda: one.status()["request"].get("sent"), "it is remembered")
        one.bridge.stuck = set()
        one.bridge.move("live", 10)
        one.kubernetes.change(CUTOVERS, "orders", stage="mirror")
        one.start()
        async with one.running():
            await until(lambda: one.bridge.standing.stage == "mirror", "it is taken back")
            await one.wait("InSync", "AsRequested")

    asyncio.run(whole())


def test_without_an_answer_the_same_request_is_repeated_under_its_id() -> None:
    async def play(one: Stage) -> None:
        one.bridge.lost = AWAY
        one.kubernetes.change(CUTOVERS, "orders", stage="off", hold=True, reason="x")
        await until(lambda: len(one.bridge.moves) > 3, "it is repeated")
        one.bridge.lost = None
        await one.wait("InSync", "AsRequested")
        assert {move["request_id"] for move in one.bridge.moves} == {"uid-orders.2", "uid-orders.2.move"}
        assert one.bridge.standing.epoch == 3
        assert one.recorder.reasons("orders").count("TransitionRequested") == 1

    story(play)


# At once


def test_a_kill_does_not_wait_for_what_is_only_asked() -> None:
    async def play(one: Stage) -> None:
        await one.wait("InSync", "AsRequested")
        one.bridge.stuck = {"outlook", "last_move"}
        one.bridge.move("mirror", who="bob")
        await until(lambda: one.moving.stage_of("main", "orders") == "mirror", "it is seen")
        await one.looked()
        one.kubernetes.change(CUTOVERS, "orders", kill=True)
        await until(lambda: one.status()["request"]["generation"] == 2, "it is answered")
        await one.wait("InSync", "AsRequested")
        assert one.status()["stage"] == "off"
        one.bridge.stuck = set()
        await until(lambda: one.status().get("changedBy") == "api:operator", "who moved it is shown in the end")

    story(play, **LIVE)


@pytest.mark.parametrize("where", ["status", "event"])
def test_a_kill_does_not_wait_for_what_is_written_into_kubernetes(where: str) -> None:
    async def play(one: Stage) -> None:
        await one.wait("InSync", "AsRequested")
        if where == "status":
            one.kubernetes.stuck = {"patch_status"}
        else:
            one.recorder.stuck = True
        one.kubernetes.change(CUTOVERS, "orders", percent=25)
        await until(lambda: one.bridge.standing.percent == 25, "it is moved")
        await one.looked()
        one.kubernetes.change(CUTOVERS, "orders", kill=True, reason="smoke")
        await until(lambda: one.bridge.standing.stage == "off", "it is killed")
        await one.looked()
        assert one.asked() == ["move", "move", "kill"]
        assert one.status()["stage"] == "live", "nothing of it is shown"
        one.kubernetes.stuck, one.recorder.stuck = set(), False
        await until(lambda: one.status()["stage"] == "off", "the newest is shown last")
        await one.wait("InSync", "AsRequested")
        await one.looked()
        assert one.status()["request"]["generation"] == 3
        assert one.recorder.reasons("orders") == ["TransitionRequested"] * 3

    story(play, **LIVE)


def test_the_answer_to_one_that_was_replaced_is_not_its_heirs() -> None:
    async def play(one: Stage) -> None:
        await one.wait("InSync", "AsRequested")
        one.kubernetes.stuck = {"patch_status"}
        one.kubernetes.change(CUTOVERS, "orders", percent=25)
        await until(lambda: one.bridge.standing.percent == 25, "it is moved")
        one.kubernetes.put(CUTOVERS, cutover_body(meta={"uid": "heir", "generation": 2}, kill=True))
        await until(lambda: one.bridge.standing.stage == "off", "it is killed")
        one.kubernetes.stuck = set()
        await one.wait("InSync", "AsRequested")
        await one.looked()
        assert one.kubernetes.world.cutovers[Key("shop", "orders")].uid == "heir"
        assert one.asked() == ["move", "move", "kill"]
        assert one.status()["request"]["action"] == "kill"

    story(play, **LIVE)


def test_what_cannot_be_written_to_one_that_was_replaced_does_not_forget_its_heir() -> None:
    one = Stage()
    one.kubernetes.put(CUTOVERS, cutover_body())
    before = one.kubernetes.world.cutovers[Key("shop", "orders")]
    one.kubernetes.put(CUTOVERS, cutover_body(meta={"uid": "heir"}))
    assert not asyncio.run(one.moving._write(before, {"stage": "off"}))
    assert one.kubernetes.world.cutovers[Key("shop", "orders")].uid == "heir"
    assert one.status() == {}


def test_a_move_elsewhere_is_shown_even_if_nobody_can_say_whose_it_was() -> None:
    async def play(one: Stage) -> None:
        await one.wait("InSync", "AsRequested")
        await until(lambda: one.status().get("changedBy"), "it is known who moved it")
        one.bridge.stuck = {"outlook", "last_move"}
        one.bridge.move("mirror", who="bob")
        await until(lambda: one.moving.stage_of("main", "orders") == "mirror", "it is seen")
        one.bridge.forgetful = AWAY
        one.bridge.stuck = {"outlook"}
        moved = await one.wait("InSync", "MovedElsewhere")
        assert "was moved to mirror; nothing is undone" in moved["message"]
        one.bridge.forgetful = None
        await until(lambda: one.status().get("changedBy") == "bob", "it is known at last")
        assert one.recorder.reasons("orders") == ["TransitionRequested", "OutOfSync"]

    story(play, **LIVE)


@pytest.mark.parametrize("spec", [{"kill": True}, {"stage": "off"}])
def test_another_request_does_not_wait_until_the_one_before_is_tried_again(
    spec: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lagscaler.controller.moving.BACKOFF", (1e6, 1e6))

    async def play(one: Stage) -> None:
        await one.wait("InSync", "AsRequested")
        one.bridge.lost = AWAY
        one.kubernetes.change(CUTOVERS, "orders", percent=25)
        await one.wait("BridgeReachable", "BridgeUnreachable")
        one.bridge.lost = None
        one.kubernetes.change(CUTOVERS, "orders", **spec)
        await until(lambda: one.bridge.standing.stage == "off", "it is back")
        await one.wait("InSync", "AsRequested")

    story(play, **LIVE)


def test_a_kill_is_tried_again_at_every_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lagscaler.controller.moving.BACKOFF", (1e6, 1e6))

    async def play(one: Stage) -> None:
        await one.wait("InSync", "AsRequested")
        one.bridge.lost = AWAY
        one.kubernetes.change(CUTOVERS, "orders", kill=True)
        await until(lambda: len(one.bridge.moves) > 3, "it is tried again")
        one.bridge.lost = None
        await one.wait("InSync", "AsRequested")

    story(play, **LIVE)


def test_what_follows_a_kill_and_fails_is_not_tried_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def play(one: Stage) -> None:
        await one.wait("InSync", "AsRequested")
        monkeypatch.setattr("lagscaler.controller.moving.BACKOFF", (1e6, 1e6))
        one.bridge.lost, one.bridge.spared = AWAY, "kill"
        one.kubernetes.change(CUTOVERS, "orders", kill=True, hold=True)
        await one.wait("BridgeReachable", "BridgeUnreachable")
        before = one.asked()
        await one.looked()
        assert one.asked() == before == ["move", "kill", "hold"]

    story(play, **LIVE)


@pytest.mark.parametrize("pause", [moving._pause, process._pause])
def test_a_pause_has_an_end_however_often_something_failed(pause: Callable[[int], float]) -> None:
    assert pause(5000) == pause(40) > pause(1) > 0


class Second(FakeBridge):
    """Has another service, payments, whose requests end otherwise."""

    def __init__(self) -> None:
        super().__init__()
        self.fault: Exception | None = None

    async def standings(self) -> dict[str, Standing]:
        return {**await super().standings(), "payments": Standing("payments", "off", 0.0, 1, False, None, False, 0)}

    async def transition(self, service: str, body: Mapping[str, Any]) -> Done:
        if service == "orders":
            return await super().transition(service, body)
        if self.fault is not None:
            raise self.fault
        await asyncio.Event().wait()
        raise AssertionError


@pytest.mark.parametrize("fault", [None, KeyError("after")], ids=["slow", "faulty"])
def test_one_cutover_does_not_hold_up_another(fault: Exception | None, caplog: pytest.LogCaptureFixture) -> None:
    async def whole() -> None:
        one = Stage()
        second = one.bridge = Second()
        second.fault = fault
        one.kubernetes.put(CUTOVERS, cutover_body("payments", service="payments", stage="mirror"))
        one.kubernetes.put(CUTOVERS, cutover_body())
        async with one.running():
            await one.wait("InSync", "NothingRequested")
            one.kubernetes.change(CUTOVERS, "orders", stage="mirror")
            await one.wait("InSync", "AsRequested")
            one.kubernetes.change(CUTOVERS, "orders", kill=True)
            await until(lambda: one.bridge.standing.stage == "off", "it is killed")
        assert ("Cutover shop/payments could not be dealt with" in caplog.text) == (fault is not None)

    asyncio.run(whole())
