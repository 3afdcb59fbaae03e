"""The loops between Cutovers and a bridge, both in memory."""

from __future__ import annotations

import asyncio

from lagscaler.bridge.client import RequestRefusedError
from lagscaler.kubernetes.api import KubernetesError
from lagscaler.kubernetes.kinds import CUTOVERS
from tests.unit.lagscaler.builders import cutover_body
from tests.unit.lagscaler.controller.moving_story import AWAY, Stage, story
from tests.unit.lagscaler.fakes import until


def test_without_a_stage_it_shows_how_things_stand_and_what_is_next() -> None:
    async def play(one: Stage) -> None:
        one.bridge.move("live", 10, who="bob", why="friday")
        await until(lambda: one.status().get("changedBy") == "bob", "who moved it is shown")
        await until(lambda: "verdict" in one.status(), "the verdict is shown")
        status = one.status()
        assert {name: status[name] for name in ("stage", "percent", "epoch", "hold", "changedWhy", "requested")} == {
            "stage": "live", "percent": 10, "epoch": 2, "hold": False, "changedWhy": "friday", "requested": "",
        }  # fmt: skip
        assert status["verdict"] == {"state": "INSUFFICIENT", "sentence": "40 more"}
        assert status["next"] == {"step": "live 25%", "allowed": False, "missing": ["verdict: 40 more clean pairs"]}
        assert one.bridge.moves == []
        await one.wait("InSync", "NothingRequested")

    story(play)


def test_a_stage_is_asked_for_once_and_shown() -> None:
    async def play(one: Stage) -> None:
        await one.wait("InSync", "AsRequested")
        assert one.status()["stage"] == "mirror"
        assert one.status()["requested"] == "mirror"
        assert one.status()["request"]["rollback"] == "taskbridge cutover orders off"
        await until(lambda: one.status().get("changedBy") == "api:operator", "who moved it is shown")
        assert [move["request_id"] for move in one.bridge.moves] == ["uid-orders.1"]
        assert one.recorder.reasons("orders") == ["TransitionRequested"]
        assert one.moving.stage_of("main", "orders") == "mirror"
        await until(lambda: one.status().get("next", {}).get("step") == "live 1%", "what live takes is shown")
        assert one.bridge.outlooks[-1] == ("live", 1.0)
        assert 'lagscaler_cutover_in_sync{name="orders",namespace="shop"} 1.0' in one.metrics.exposition().decode()

    story(play, stage="mirror")


def test_what_moves_otherwise_is_shown_and_never_undone() -> None:
    async def play(one: Stage) -> None:
        await one.wait("InSync", "AsRequested")
        await until(lambda: "verdict" in one.status(), "the verdict is shown")
        one.bridge.move("off", who="guard rail", why="mismatches")
        moved = await one.wait("InSync", "MovedElsewhere")
        assert moved["message"].startswith(
            "It was asked to be mirror and was moved to off by guard rail (mismatches); nothing is undone."
        )
        looks = len(one.bridge.outlooks)
        await until(lambda: len(one.bridge.outlooks) > looks, "some more looks")
        await until(lambda: one.status()["next"]["step"] == "mirror", "the way back to mirror is shown")
        assert "verdict" not in one.status()
        assert len(one.bridge.moves) == 1
        assert one.recorder.reasons("orders") == ["TransitionRequested", "OutOfSync"]
        one.kubernetes.change(CUTOVERS, "orders", reason="again")
        await one.wait("InSync", "AsRequested")
        assert [move["reason"] for move in one.bridge.moves] == ["", "again"]

    story(play, stage="mirror")


def test_what_is_refused_is_told_with_what_it_takes_and_not_asked_again() -> None:
    async def play(one: Stage) -> None:
        one.bridge.refusal = RequestRefusedError(422, "orders cannot go there", ("verdict: 40 more", "members: none"))
        one.kubernetes.change(CUTOVERS, "orders", stage="live", percent=1)
        refused = await one.wait("Accepted", "Refused")
        assert refused["message"] == (
            "move to live 1% is refused: orders cannot go there. It takes: verdict: 40 more; members: none."
            " Ask again with a new spec.reason, when that is met."
        )
        assert (await one.wait("InSync", "Refused"))["status"] == "False"
        assert one.status()["requested"] == "live 1%"
        assert one.status()["request"]["missing"] == ["verdict: 40 more", "members: none"]
        looks = len(one.bridge.outlooks)
        await until(lambda: len(one.bridge.outlooks) > looks, "some more looks")
        assert len(one.bridge.moves) == 1
        one.bridge.refusal = None
        one.kubernetes.change(CUTOVERS, "orders", reason="ready now")
        await one.wait("InSync", "AsRequested")

    story(play)


def test_a_spec_that_was_superseded_while_the_bridge_was_away_is_not_sent() -> None:
    async def play(one: Stage) -> None:
        await one.wait("InSync", "NothingRequested")
        one.bridge.unreachable = AWAY
        await one.wait("BridgeReachable", "BridgeUnreachable")
        one.kubernetes.change(CUTOVERS, "orders", stage="mirror")
        await one.wait("Accepted", "Pending")
        one.kubernetes.change(CUTOVERS, "orders", stage="off", reason="on second thoughts")
        one.bridge.unreachable = None
        await one.wait("BridgeReachable", "Answers")
        await until(lambda: one.status()["request"]["generation"] == 3, "the last one is dealt with")
        assert [move["stage"] for move in one.bridge.moves] == ["off"]
        assert one.recorder.reasons("orders")[:1] == ["BridgeUnreachable"]

    story(play)


def test_a_restart_after_a_lost_status_repeats_the_request_under_the_same_id() -> None:
    async def whole() -> None:
        one = Stage()
        one.kubernetes.put(CUTOVERS, cutover_body(stage="mirror"))
        one.kubernetes.broken = KubernetesError(0, "away")
        async with one.running():
            await until(lambda: one.bridge.moves, "it is sent")
        assert one.status() == {}
        one.bridge.move("off", who="bob")
        one.kubernetes.broken = None
        one.start()
        async with one.running():
            await one.wait("InSync", "MovedElsewhere")
        assert [move["request_id"] for move in one.bridge.moves] == ["uid-orders.1"] * 2
        assert one.bridge.standing.stage == "off"

    asyncio.run(whole())


def test_a_status_that_cannot_be_written_does_not_repeat_the_request() -> None:
    async def play(one: Stage) -> None:
        await one.wait("InSync", "NothingRequested")
        one.kubernetes.broken = KubernetesError(0, "away")
        body = cutover_body(stage="mirror", meta={"generation": 2}, status=one.status())
        one.kubernetes.put(CUTOVERS, body)
        await until(lambda: one.bridge.moves, "it is sent")
        looks = len(one.bridge.outlooks)
        one.bridge.move("off", who="bob")
        await until(lambda: len(one.bridge.outlooks) > looks, "another look")
        one.kubernetes.broken = None
        await one.wait("InSync", "MovedElsewhere")
        assert len(one.bridge.moves) == 1

    story(play)


def test_a_change_is_compared_with_what_was_sent_even_if_the_status_does_not_say_so() -> None:
    async def play(one: Stage) -> None:
        await one.wait("InSync", "NothingRequested")
        one.kubernetes.broken = KubernetesError(0, "away")
        one.kubernetes.change(CUTOVERS, "orders", hold=True)
        await until(lambda: len(one.bridge.moves) == 1, "the first is sent")
        one.kubernetes.change(CUTOVERS, "orders", stage="mirror")
        await until(lambda: len(one.bridge.moves) == 2, "the second is sent")
        assert [move["action"] for move in one.bridge.moves] == ["hold", "move"]

    story(play)


def test_of_two_for_one_service_the_older_one_asks() -> None:
    async def play(one: Stage) -> None:
        await one.wait("InSync", "AsRequested")
        later = {"creationTimestamp": "2026-02-02T00:00:00Z"}
        one.kubernetes.put(CUTOVERS, cutover_body("second", stage="off", meta=later))
        taken = await one.wait("Accepted", "ServiceTaken", "second")
        assert "older Cutover shop/orders" in taken["message"]
        assert len(one.bridge.moves) == 1

    story(play, stage="mirror")


def test_an_unknown_service_or_bridge_is_told() -> None:
    async def play(one: Stage) -> None:
        said = await one.wait("BridgeReachable", "ServiceUnknown")
        assert "no service 'payments'; it has: orders" in said["message"]
        one.kubernetes.put(CUTOVERS, cutover_body("second", bridge="other"))
        assert "no bridge 'other'" in (await one.wait("BridgeReachable", "BridgeUnknown", "second"))["message"]
        assert one.bridge.moves == []

    story(play, service="payments", stage="mirror")


def test_hold_keeps_the_stage_that_was_asked_for() -> None:
    async def play(one: Stage) -> None:
        await one.wait("InSync", "AsRequested")
        one.kubernetes.change(CUTOVERS, "orders", hold=True)
        await until(lambda: one.status().get("hold"), "it is held")
        assert one.status()["requested"] == "mirror on hold"
        one.bridge.move("off", who="bob", hold=True)
        await one.wait("InSync", "MovedElsewhere")

    story(play, stage="mirror")


def test_a_deleted_one_is_forgotten() -> None:
    async def play(one: Stage) -> None:
        await one.wait("InSync", "AsRequested")
        one.kubernetes.remove(CUTOVERS, "orders")
        assert 'name="orders"' not in one.metrics.exposition().decode()
        one.bridge.move("off")
        await until(lambda: one.moving.stage_of("main", "orders") == "off", "it is looked at")
        assert len(one.bridge.moves) == 1

    story(play, stage="mirror")


# Several requests of one change


def test_a_hold_and_a_way_back_that_come_together_are_both_asked_for() -> None:
    async def play(one: Stage) -> None:
        await one.wait("InSync", "AsRequested")
        # The order that the definition's own message advises, before the operator looks again.
        one.kubernetes.change(CUTOVERS, "orders", hold=True)
        one.kubernetes.change(CUTOVERS, "orders", stage="off", reason="smoke")
        await until(lambda: one.status()["request"]["generation"] == 3, "it is dealt with")
        assert one.asked() == ["move", "hold", "move"]
        assert [move["request_id"] for move in one.bridge.moves[1:]] == ["uid-orders.3", "uid-orders.3.move"]
        assert (one.bridge.standing.stage, one.bridge.standing.hold) == ("off", True)
        await one.wait("InSync", "AsRequested")
        status = one.status()
        assert (status["requested"], status["stage"], status["hold"]) == ("off on hold", "off", True)
        assert status["request"]["message"] == (
            "hold: done; orders is live 10% on hold. move to off: done; orders is off on hold."
        )
        assert one.recorder.reasons("orders") == ["TransitionRequested"] * 2
        assert one.counted("Applied") == 3

    story(play, stage="live", percent=10)


def test_a_step_forward_of_one_that_is_held_from_the_beginning_is_refused_and_shown() -> None:
    async def play(one: Stage) -> None:
        refused = await one.wait("Accepted", "Refused")
        assert refused["message"].startswith(
            "hold: done; orders is off on hold. move to live 5% is refused: orders is held. It takes: hold:"
        )
        assert (await one.wait("InSync", "Refused"))["status"] == "False"
        assert one.status()["hold"] is True
        assert one.asked() == ["hold", "move"]
        assert (one.counted("Applied"), one.counted("Refused")) == (1, 1)
        assert one.recorder.reasons("orders") == ["TransitionRefused"]
        one.kubernetes.change(CUTOVERS, "orders", hold=False)
        await until(lambda: one.status()["request"]["generation"] == 2, "it is dealt with")
        assert one.asked() == ["hold", "move", "release"]

    story(play, stage="live", percent=5, hold=True)


def test_a_kill_is_followed_by_the_hold_that_came_with_it() -> None:
    async def play(one: Stage) -> None:
        await one.wait("InSync", "AsRequested")
        one.kubernetes.change(CUTOVERS, "orders", kill=True, hold=True, reason="smoke")
        await until(lambda: one.status()["request"]["generation"] == 2, "it is dealt with")
        assert one.asked() == ["move", "kill", "hold"]
        assert (one.bridge.standing.stage, one.bridge.standing.hold) == ("off", True)
        await one.wait("InSync", "AsRequested")
        assert one.status()["requested"] == "off on hold"

    story(play, stage="live", percent=10)


def test_what_is_held_and_was_not_to_be_is_not_in_sync() -> None:
    async def play(one: Stage) -> None:
        await one.wait("InSync", "AsRequested")
        one.bridge.move("live", 10, who="bob", why="sale", hold=True)
        await one.wait("InSync", "MovedElsewhere")
        # The way back is open, and the hold stays.
        one.kubernetes.change(CUTOVERS, "orders", stage="off")
        await until(lambda: one.status()["request"]["generation"] == 2, "it is dealt with")
        moved = await one.wait("InSync", "MovedElsewhere")
        assert "asked to be off and was moved to off on hold" in moved["message"]
        assert one.status()["requested"] == "off"

    story(play, stage="live", percent=10)


def test_a_hold_that_was_refused_is_asked_for_again_with_a_better_reason() -> None:
    async def play(one: Stage) -> None:
        await one.wait("InSync", "AsRequested")
        one.bridge.refusal = RequestRefusedError(422, "not for that")
        one.kubernetes.change(CUTOVERS, "orders", hold=True, reason="so")
        await one.wait("Accepted", "Refused")
        one.bridge.refusal = None
        one.kubernetes.change(CUTOVERS, "orders", reason="sale")
        await until(lambda: one.bridge.standing.hold, "it is held")
        await one.wait("InSync", "AsRequested")
        assert one.asked() == ["move", "hold", "hold"]

    story(play, stage="mirror")


def test_what_is_left_of_a_spec_is_not_sent_after_the_next_one() -> None:
    async def play(one: Stage) -> None:
        await one.wait("InSync", "AsRequested")
        one.bridge.stuck = {"transition"}
        one.kubernetes.change(CUTOVERS, "orders", hold=True)
        one.kubernetes.change(CUTOVERS, "orders", stage="mirror", reason="slower")
        await until(lambda: len(one.bridge.moves) == 2, "the hold is under way")
        one.kubernetes.change(CUTOVERS, "orders", kill=True, reason="smoke")
        one.bridge.stuck = set()
        await until(lambda: one.status()["request"]["generation"] == 4, "the last one is dealt with")
        assert one.asked() == ["move", "hold", "kill", "hold"]
        assert (one.bridge.standing.stage, one.bridge.standing.hold) == ("off", True)
        await one.wait("InSync", "AsRequested")

    story(play, stage="live", percent=10)
