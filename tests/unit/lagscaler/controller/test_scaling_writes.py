"""Writes of replicas and of statuses that fail, hang, come late or are refused."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from lagscaler.kubernetes.api import KubernetesError
from lagscaler.kubernetes.kinds import CONSUMERS, DEPLOYMENTS
from lagscaler.policy.decide import decide
from lagscaler.policy.model import Decision, Gap
from lagscaler.resources.conditions import condition_of
from lagscaler.resources.reading import Key
from tests.unit.lagscaler.builders import consumer_body, deployment_body
from tests.unit.lagscaler.controller.scaling_story import FAST, Stage, story
from tests.unit.lagscaler.fakes import until


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop turns as much faster as the clock goes."""
    monkeypatch.setattr("lagscaler.controller.scaling.TICK", 0.01)


def test_what_the_api_server_does_not_take_is_tried_again() -> None:
    async def play(one: Stage) -> None:
        await until(lambda: one.status().get("desiredReplicas") == 1, "the first decision")
        one.kubernetes.broken = KubernetesError(0, "the API server is away")
        one.sampler.lag = 100_000
        await one.polls(5)
        assert one.kubernetes.replicas() == 1
        one.kubernetes.broken = None
        await until(lambda: one.kubernetes.replicas() == 4, "it is written at last")
        assert "ReplicasOverwritten" not in one.recorder.reasons("orders")

    story(play)


@pytest.mark.parametrize("meanwhile", ["paused", "deleted"])
def test_what_the_watch_has_not_told_yet_is_obeyed(meanwhile: str) -> None:
    async def play(one: Stage) -> None:
        await until(lambda: one.status().get("desiredReplicas") == 1, "the first decision")
        one.kubernetes.broken = KubernetesError(0, "the API server is away")
        one.sampler.lag = 100_000
        await one.polls(5)
        place = (CONSUMERS.name, Key("shop", "orders"))
        body = one.kubernetes.bodies.pop(place)
        if meanwhile == "paused":
            changed = {**body["metadata"], "generation": 2, "resourceVersion": "1000"}
            one.kubernetes.bodies[place] = {**body, "metadata": changed, "spec": {**body["spec"], "mode": "Paused"}}
        one.kubernetes.broken = None
        there = meanwhile == "paused"
        await until(
            lambda: one.condition("Paused") == ("True", "Paused") if there else not one.world.consumers, "it is known"
        )
        await one.turns(5)
        assert one.kubernetes.scaled == []

    story(play)


def test_what_goes_while_it_is_read_stays_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    async def play(one: Stage) -> None:
        await until(lambda: one.status().get("desiredReplicas") == 1, "the first decision")
        read = one.kubernetes.one

        async def late(kind: Any, key: Key) -> dict[str, Any]:
            found = await read(kind, key)
            one.kubernetes.remove(CONSUMERS, "orders")
            return found

        monkeypatch.setattr(one.kubernetes, "one", late)
        one.sampler.lag = 100_000
        await until(lambda: not one.world.consumers, "it is gone")
        await one.turns(5)
        assert (one.world.consumers, one.kubernetes.scaled) == ({}, [])

    story(play)


def test_a_write_whose_answer_is_lost_is_not_taken_for_somebody_elses() -> None:
    async def play(one: Stage) -> None:
        await until(lambda: one.status().get("desiredReplicas") == 1, "the first decision")
        one.kubernetes.lost_answers = True
        one.sampler.lag = 100_000
        await until(lambda: one.kubernetes.replicas() == 4, "it is written")
        one.kubernetes.lost_answers = False
        await one.polls(4)
        assert one.kubernetes.replicas() == 4
        assert "ReplicasOverwritten" not in one.recorder.reasons("orders")

    story(play)


def test_a_scale_that_the_api_server_refuses_is_shown_and_tried_again() -> None:
    async def play(one: Stage) -> None:
        await until(lambda: one.status().get("desiredReplicas") == 1, "the first decision")
        one.kubernetes.unscalable = KubernetesError(403, "deployments/scale is forbidden")
        one.sampler.lag = 100_000
        await until(lambda: one.condition("Ready") == ("False", "ScaleRefused"), "it is shown")
        assert one.status()["desiredReplicas"] == 4
        assert one.status()["reason"] == "ScaleRefused"
        assert "deployments/scale is forbidden" in condition_of(one.status(), "Ready")["message"]
        assert 'lagscaler_ready{name="orders",namespace="shop"} 0.0' in one.metrics.exposition().decode()
        tries = one.kubernetes.tries
        await until(lambda: one.kubernetes.tries > tries + 2, "it is tried again")
        # An answer that is none says nothing of the refusal.
        one.kubernetes.unscalable = KubernetesError(0, "away")
        await one.polls(3)
        assert one.condition("Ready") == ("False", "ScaleRefused")
        assert one.recorder.reasons("orders").count("ScaleRefused") == 1
        one.kubernetes.unscalable = None
        await until(lambda: one.kubernetes.replicas() == 4, "it is written at last")
        await until(lambda: one.condition("Ready") == ("True", "Auto"), "the refusal is over")
        assert "ReplicasOverwritten" not in one.recorder.reasons("orders")

    story(play)


def test_a_refusal_is_shown_without_waiting_for_a_look() -> None:
    async def play(one: Stage) -> None:
        await until(lambda: one.condition("SLOMet") == ("True", "Within"), "the first look is shown")
        looks = one.sampled()
        one.kubernetes.unscalable = KubernetesError(422, "the webhook says no")
        one.kubernetes.change(CONSUMERS, "orders", mode="Manual", replicas=4)
        await until(lambda: one.condition("Ready") == ("False", "ScaleRefused"), "it is shown")
        assert one.kubernetes.tries <= 3
        one.kubernetes.unscalable = None
        one.kubernetes.change(CONSUMERS, "orders", replicas=5)
        await until(lambda: one.condition("Ready") == ("True", "Manual"), "the refusal is over")
        assert one.kubernetes.replicas() == 5
        assert one.sampled() == looks

    story(play, scaling={"pollSeconds": 300}, capacity={"windowSeconds": 900})


@pytest.mark.parametrize("status", [409, 429, 500])
def test_a_passing_failure_is_no_refusal_and_the_deployment_is_still_there(status: int) -> None:
    async def play(one: Stage) -> None:
        await until(lambda: one.status().get("desiredReplicas") == 1, "the first decision")
        one.kubernetes.unscalable = KubernetesError(status, "not now")
        one.sampler.lag = 100_000
        await until(lambda: one.kubernetes.tries > 3, "it is tried")
        assert one.world.targets
        assert one.condition("Ready") == ("True", "Auto")
        one.kubernetes.unscalable = None
        await until(lambda: one.kubernetes.replicas() == 4, "it is written at last")
        assert not {"ScaleRefused", "TargetMissing"} & set(one.recorder.reasons("orders"))

    story(play)


def test_a_deployment_that_is_gone_is_missing() -> None:
    async def play(one: Stage) -> None:
        await until(lambda: one.status().get("desiredReplicas") == 1, "the first decision")
        one.kubernetes.unscalable = KubernetesError(404, "there is none")
        one.sampler.lag = 100_000
        await until(lambda: one.condition("Ready") == ("False", "TargetMissing"), "it is shown")

    story(play)


def test_a_deployment_that_was_replaced_while_it_was_scaled_is_not_missing() -> None:
    async def play(one: Stage) -> None:
        await until(lambda: one.status().get("desiredReplicas") == 1, "the first decision")
        stored = one.kubernetes.scale

        async def replaced(key: Key, replicas: int) -> dict[str, Any]:
            one.kubernetes.scale = stored  # type: ignore[method-assign]
            heir = deployment_body(1)
            one.kubernetes.put(DEPLOYMENTS, {**heir, "metadata": {**heir["metadata"], "uid": "heir"}})
            raise KubernetesError(404, "there is none")

        one.kubernetes.scale = replaced  # type: ignore[method-assign]
        one.sampler.lag = 100_000
        await until(lambda: one.kubernetes.replicas() == 4, "the other is scaled")
        assert "TargetMissing" not in one.recorder.reasons("orders")

    story(play)


def test_a_deployment_that_is_slow_to_be_scaled_holds_up_its_own_consumer_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def decided(history: Any, spec: Any, state: Any) -> Decision:
        if spec.latency == 7:
            raise ZeroDivisionError
        return decide(history, spec, state)

    monkeypatch.setattr("lagscaler.controller.scaling.decide", decided)

    async def whole() -> None:
        one = Stage()
        one.kubernetes.put(DEPLOYMENTS, deployment_body(1))
        one.kubernetes.put(DEPLOYMENTS, deployment_body(1, "slow"))
        one.kubernetes.put(DEPLOYMENTS, deployment_body(1, "third"))
        one.kubernetes.put(CONSUMERS, consumer_body(**FAST))
        one.kubernetes.put(CONSUMERS, consumer_body("second", **{**FAST, "targetRef": {"name": "slow"}}))
        broken = {**FAST, "targetRef": {"name": "third"}, "slo": {"latencySeconds": 7}}
        one.kubernetes.put(CONSUMERS, consumer_body("undecided", **broken))

        def looks(name: str) -> int:
            return sum(request.key.name == name for asked in one.sampler.asked for request in asked)

        async with one.running():
            await until(lambda: one.condition("SLOMet", "second") == ("True", "Within"), "both are looked at")
            one.kubernetes.stuck = {"slow"}
            one.sampler.lag = 100_000
            await until(lambda: one.kubernetes.scaled == [("worker", 4)], "the first is scaled")
            before = {name: looks(name) for name in ("orders", "second", "undecided")}
            await until(lambda: looks("orders") > before["orders"] + 3, "it is looked at again and again")
            await until(lambda: looks("undecided") > before["undecided"] + 3, "so is one on which nothing is decided")
            assert looks("second") == before["second"]
            one.kubernetes.stuck = set()
            await until(lambda: one.kubernetes.replicas("slow") == 4, "the second is scaled")
            await until(lambda: looks("second") > before["second"], "it is looked at again")

    asyncio.run(whole())


@pytest.mark.parametrize("heir", [False, True])
def test_the_answer_to_a_write_does_not_bring_back_what_went_meanwhile(heir: bool) -> None:
    async def play(one: Stage) -> None:
        await until(lambda: one.condition("SLOMet") == ("True", "Within"), "the first look is shown")
        stored = one.kubernetes.patch_status

        async def late(*args: Any, **options: Any) -> dict[str, Any]:
            found = await stored(*args, **options)
            one.kubernetes.remove(CONSUMERS, "orders")
            if heir:
                one.kubernetes.put(CONSUMERS, consumer_body(meta={"uid": "heir"}, **FAST))
            one.kubernetes.patch_status = stored  # type: ignore[method-assign]
            return found

        one.kubernetes.patch_status = late  # type: ignore[method-assign]
        one.sampler.gaps = {Gap.UNREACHABLE: "no broker answers"}
        await until(lambda: one.kubernetes.patch_status == stored, "it goes")
        await one.turns(5)
        assert [found.uid for found in one.world.consumers.values()] == (["heir"] if heir else [])

    story(play)


@pytest.mark.parametrize("slow", ["status", "event"])
def test_what_is_shown_slowly_holds_up_no_decision_and_no_replicas(slow: str) -> None:
    async def play(one: Stage) -> None:
        await until(lambda: one.condition("SLOMet") == ("True", "Within"), "the first look is shown")
        if slow == "status":
            one.kubernetes.stuck = {"patch_status"}
        else:
            one.recorder.stuck = True
        one.sampler.lag = 100_000
        await until(lambda: one.kubernetes.replicas() == 4, "it is scaled")
        await one.polls(3)
        one.kubernetes.put(DEPLOYMENTS, deployment_body(7, writer="kubectl"))
        await until(lambda: one.kubernetes.replicas() == 4, "a foreign write is undone")
        assert one.status().get("desiredReplicas") == 1
        one.kubernetes.stuck, one.recorder.stuck = set(), False
        await until(lambda: one.status().get("desiredReplicas") == 4, "it is shown at last")
        await until(lambda: "ReplicasOverwritten" in one.recorder.reasons("orders"), "all is told")

    story(play)
