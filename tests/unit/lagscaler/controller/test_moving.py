"""The loops between Cutovers and a bridge, both in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from lagscaler.bridge.client import BridgeUnreachableError, RequestRefusedError
from lagscaler.controller.moving import Moving
from lagscaler.controller.world import World
from lagscaler.kubernetes.api import KubernetesError
from lagscaler.kubernetes.kinds import CUTOVERS
from lagscaler.metrics import Metrics
from lagscaler.resources.conditions import condition_of
from tests.unit.lagscaler.builders import cutover_body
from tests.unit.lagscaler.fakes import Clock, FakeBridge, FakeKubernetes, FakeRecorder, until

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

    def status(self, name: str = "orders") -> dict[str, Any]:
        """Return a Cutover's status."""
        return self.kubernetes.status(CUTOVERS, name)

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
        assert ("main", "orders") in one.seen
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
