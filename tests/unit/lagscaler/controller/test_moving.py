"""The loops between Cutovers and a bridge, both in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from lagscaler.bridge.client import BridgeUnreachableError, Done, RequestRefusedError, Standing
from lagscaler.controller import moving, process
from lagscaler.controller.moving import Moving
from lagscaler.controller.world import World
from lagscaler.kubernetes.api import KubernetesError
from lagscaler.kubernetes.kinds import CUTOVERS
from lagscaler.metrics import Metrics
from lagscaler.resources.conditions import condition_of
from lagscaler.resources.reading import Key
from tests.unit.lagscaler.builders import cutover_body
from tests.unit.lagscaler.fakes import SETTINGS, Clock, FakeBridge, FakeKubernetes, FakeRecorder, until

AWAY = BridgeUnreachableError("BridgeUnreachable", "the bridge main does not answer")


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lagscaler.controller.moving.BACKOFF", (0.02, 0.1))


class Stage:
    """One operator with all around it."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.kubernetes = FakeKubernetes()
        self.recorder = FakeRecorder()
        self.bridge = FakeBridge()
        self.metrics = Metrics("1")
        self.seen: list[tuple[str, str]] = []
        self.moving: Moving
        self.start()

    def start(self) -> None:
        """Make a new operator, that knows what an API server knows and nothing else."""
        world = World(lambda _, key: self.moving.changed(key))
        world.settings = SETTINGS
        self.kubernetes.world = world
        self.moving = Moving(
            world, self.kubernetes, self.recorder, self.metrics, self.clock, lambda *which: self.seen.append(which)
        )
        for body in list(self.kubernetes.bodies.values()):
            world.see(CUTOVERS, None, body)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Let the loops run."""
        tasks = {
            asyncio.create_task(self.moving.follow("main", self.bridge, 0.05)),
            asyncio.create_task(self.moving.follow_strays()),
        }
        try:
            yield
            for task in tasks:
                assert not task.done(), task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    def asked(self) -> list[str]:
        """Return the actions that the bridge was asked for."""
        return [str(move["action"]) for move in self.bridge.moves]

    def counted(self, outcome: str, name: str = "orders") -> float | None:
        """Return how many requests of a Cutover had an outcome; None when there is no such series."""
        labels = {"namespace": "shop", "name": name, "outcome": outcome}
        return self.metrics.registry.get_sample_value("lagscaler_cutover_requests_total", labels)

    def status(self, name: str = "orders") -> dict[str, Any]:
        """Return a Cutover's status."""
        return self.kubernetes.status(CUTOVERS, name)

    async def looked(self) -> None:
        """Wait until the bridge was looked at three more times, and what followed from two of them is over."""
        looks = self.bridge.looks
        await until(lambda: self.bridge.looks >= looks + 3, "the bridge is looked at again")

    async def wait(self, condition: str, reason: str, name: str = "orders") -> dict[str, Any]:
        """Return a condition as soon as it has a reason."""

        def found() -> Any:
            one = condition_of(self.status(name), condition)
            return one if one.get("reason") == reason else None

        return dict(await until(found, f"{condition} is {reason}"))


def story(play: Callable[[Stage], Awaitable[None]], **spec: Any) -> None:
    """Play a story with one Cutover, `orders`."""

    async def whole() -> None:
        one = Stage()
        one.kubernetes.put(CUTOVERS, cutover_body(**spec))
        async with one.running():
            await play(one)

    asyncio.run(whole())


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
        assert 'lagscaler_cutover_in_sync{name="orders",namespace="shop"} 1.0' in one.metrics.exposition().decode()

    story(play, stage="mirror")


def test_what_moves_otherwise_is_shown_and_never_undone() -> None:
    async def play(one: Stage) -> None:
        await one.wait("InSync", "AsRequested")
        one.bridge.move("off", who="guard rail", why="mismatches")
        moved = await one.wait("InSync", "MovedElsewhere")
        assert moved["message"].startswith(
            "It was asked to be mirror and was moved to off by guard rail (mismatches); nothing is undone."
        )
        looks = len(one.bridge.outlooks)
        await until(lambda: len(one.bridge.outlooks) > looks, "some more looks")
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
        one.bridge.refusal = RequestRefusedError(400, "reason must be a text")
        one.kubernetes.change(CUTOVERS, "orders", hold=True, reason="\x07")
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
