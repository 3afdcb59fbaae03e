"""The loops that scale, on a Kubernetes and a Kafka in memory."""

from __future__ import annotations

import asyncio
import itertools
import time
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from lagscaler.controller import memory, shown
from lagscaler.controller.scaling import TURN
from lagscaler.kubernetes.kinds import AUTOSCALERS, CONSUMERS, DEPLOYMENTS
from lagscaler.policy.decide import decide
from lagscaler.policy.model import Decision, Gap, PartitionState
from lagscaler.resources.conditions import condition_of
from lagscaler.resources.reading import Key
from lagscaler.settings import Settings
from tests.unit.lagscaler.builders import consumer_body, deployment_body, metadata
from tests.unit.lagscaler.controller.scaling_story import FAST, Stage, story
from tests.unit.lagscaler.fakes import SETTINGS, Clock, FakeSampler, until


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop turns as much faster as the clock goes."""
    monkeypatch.setattr("lagscaler.controller.scaling.TICK", 0.01)


def test_a_backlog_is_met_with_as_many_replicas_as_partitions_and_shown() -> None:
    async def play(one: Stage) -> None:
        await until(lambda: one.condition("SLOMet") == ("True", "Within"), "the first look is shown")
        assert one.kubernetes.scaled == []
        one.sampler.lag = 100_000
        await until(lambda: one.kubernetes.replicas() == 4, "four replicas")
        await until(lambda: one.status().get("lastScale", {}).get("to") == 4, "the change is shown")
        assert one.kubernetes.scaled[-1] == ("worker", 4)
        assert "ScaledUp" in one.recorder.reasons("orders")
        text = one.metrics.exposition().decode()
        assert 'lagscaler_scale_changes_total{direction="up",name="orders",namespace="shop"}' in text
        assert 'lagscaler_desired_replicas{name="orders",namespace="shop"} 4.0' in text
        assert 'lagscaler_lag_records{name="orders",namespace="shop"} 400000.0' in text

    story(play)


def test_a_foreign_write_is_undone_without_waiting_for_a_look() -> None:
    async def play(one: Stage) -> None:
        await until(lambda: one.status().get("desiredReplicas") == 2, "the first decision")
        looks = one.sampled()
        one.kubernetes.put(DEPLOYMENTS, deployment_body(7, writer="kubectl"))
        await until(lambda: one.kubernetes.replicas() == 2, "it is undone")
        assert one.sampled() == looks
        assert one.recorder.reasons("orders").count("ReplicasOverwritten") == 1

    story(play, replicas=2, scaling={"pollSeconds": 300, "minReplicas": 2}, capacity={"windowSeconds": 900})


def test_an_incomplete_look_takes_nothing_away_and_says_what_is_missing() -> None:
    async def play(one: Stage) -> None:
        one.sampler.gaps = {Gap.DENIED_GROUP: "Describe on group g is missing"}
        await until(lambda: one.condition("MetricsFresh") == ("False", "GroupDenied"), "the gap is shown")
        await one.polls(6)
        assert one.kubernetes.replicas() == 3
        assert one.recorder.reasons("orders").count("MetricsStale") == 1
        assert 'gap="GroupDenied"' in one.metrics.exposition().decode()

    story(play, replicas=3)


def test_a_restarted_operator_goes_on_from_the_status() -> None:
    async def play(one: Stage) -> None:
        one.sampler.lag = 100_000
        await until(lambda: one.status().get("lastScale", {}).get("to") == 4, "four replicas")
        await until(lambda: "changes" in one.status().get("policy", {}).get("state", {}), "the state is kept")

    async def whole() -> None:
        one = Stage()
        one.kubernetes.put(DEPLOYMENTS, deployment_body(1))
        one.kubernetes.put(CONSUMERS, consumer_body(**FAST))
        async with one.running():
            await play(one)
        writes, before = len(one.kubernetes.scaled), one.status()
        one.sampler.lag = 0
        one.start()
        async with one.running():
            await one.polls(1)
            first = one.sampler.asked[-1][0]
            assert first.want_times
            assert len(one.kubernetes.scaled) == writes
            found = one.scaling.recall(Key("shop", "orders"))
            assert found is not None
            assert len(found[2].changes) == len(before["policy"]["state"]["changes"])
            assert one.status()["lastScale"] == before["lastScale"]

    asyncio.run(whole())


ONCE: list[tuple[str, int, int, dict[str, Any], int]] = [
    ("added", 1, 100_000, {**FAST, "stall": {"afterSeconds": 36_000}}, 4),
    # On trial one at a time, and the next one not for hours.
    ("taken away", 4, 0, {
        **FAST, "capacity": {"windowSeconds": 30}, "rebalance": {"scaleDownAfterSeconds": 36_000, "cooldownSeconds": 1},
    }, 3),
    ("taken away to zero", 1, 0, {**FAST, "idle": {"toZero": True, "afterSeconds": 1}}, 0),
]  # fmt: skip


@pytest.mark.parametrize(
    ("replicas", "lag", "spec", "written"), [row[1:] for row in ONCE], ids=[row[0] for row in ONCE]
)
def test_an_operator_that_ends_between_its_two_writes_is_gone_on_from(
    replicas: int, lag: int, spec: dict[str, Any], written: int
) -> None:
    """The Deployment has the new number, and the status neither it nor what the policy learned by it."""

    async def whole() -> None:
        one = Stage()
        one.kubernetes.put(DEPLOYMENTS, deployment_body(replicas))
        one.kubernetes.put(CONSUMERS, consumer_body(**spec))
        async with one.running():
            await until(lambda: one.status().get("policy", {}).get("state"), "the state is kept")
            one.kubernetes.ends_with_a_scale = True
            one.sampler.lag = lag
            await until(lambda: one.kubernetes.scaled, "the replicas are written")
        kept = one.status()
        assert (kept["desiredReplicas"], "lastScale" in kept) == (replicas, False)
        assert kept["policy"]["state"]["replicas"] == replicas
        assert kept["policy"]["state"].get("changes", []) == []
        one.kubernetes.ends_with_a_scale = False
        one.start()
        async with one.running():
            await until(lambda: one.status()["desiredReplicas"] == written, "it is gone on from")
            # Longer than it took the first one to take replicas away.
            await one.turns(90)
            await one.polls(2)
        assert one.kubernetes.scaled == [("worker", written)]
        assert one.kubernetes.replicas() == written
        reasons = one.recorder.reasons("orders")
        assert [reason for reason in reasons if reason.startswith("Scaled")] == [
            "ScaledUp" if written > replicas else "ScaledDown"
        ]
        assert not {"ReplicasOverwritten", "SwitchedOff"} & set(reasons)
        # Nobody wrote it down, and it cost the group a rebalance: it counts against the hour's.
        assert len(one.status()["policy"]["state"]["changes"]) == 1

    asyncio.run(whole())


def test_offsets_that_are_lost_are_told_of_also_after_a_restart() -> None:
    def message(one: Stage) -> str:
        return str(condition_of(one.status(), "MetricsFresh")["message"])

    async def whole() -> None:
        one = Stage()
        one.kubernetes.put(DEPLOYMENTS, deployment_body(1))
        one.kubernetes.put(CONSUMERS, consumer_body(**FAST, mode="Paused"))
        one.sampler.uncommitted = 1
        async with one.running():
            await until(lambda: one.condition("MetricsFresh") == ("True", "Complete"), "the first look is shown")
            assert message(one).endswith(" 1 of 4 partitions has no committed offset.")
            one.sampler.uncommitted = 3
            await until(lambda: "; 2 of these had one until 2027-01-15T" in message(one), "the loss is shown")
            before = message(one)
        one.start()
        async with one.running():
            await one.polls(2)
            await one.turns(15)
            assert message(one) == before
            one.sampler.uncommitted = 0
            await until(lambda: message(one) == "Every partition was answered for.", "they are there again")

    asyncio.run(whole())


def test_what_was_learned_of_another_group_is_forgotten() -> None:
    async def play(one: Stage) -> None:
        one.sampler.lag = 100_000
        await until(lambda: one.status().get("policy", {}).get("state", {}).get("changes"), "the state is kept")
        one.sampler.lag = 0
        one.kubernetes.change(CONSUMERS, "orders", group="another")
        await until(lambda: one.sampler.asked[-1][0].group == "another", "the other group is looked at")
        await until(lambda: "another" in one.status()["policy"]["about"], "the state is about it")
        assert one.status()["policy"]["state"].get("changes", []) == []

    story(play)


@pytest.mark.parametrize("gone", [False, True])
def test_what_was_seen_of_another_group_decides_nothing(gone: bool) -> None:
    async def play(one: Stage) -> None:
        await until(lambda: one.status().get("desiredReplicas") == 1, "the first decision")

        def happen() -> None:
            one.sampler.lag = 0
            if gone:
                one.kubernetes.remove(CONSUMERS, "orders")
            else:
                one.kubernetes.change(CONSUMERS, "orders", group="another")

        one.sampler.lag = 1_000_000
        one.sampler.during.append(happen)
        await until(lambda: not one.sampler.during, "it happens")
        if not gone:
            await until(lambda: "another" in one.status()["policy"]["about"], "the other group is decided on")
            found = one.scaling.recall(Key("shop", "orders"))
            assert found is not None
            assert all(part.end < 1_000_000 for sample in found[1] for part in sample.partitions.values())
        assert one.kubernetes.scaled == []

    story(play)


def test_deletion_leaves_the_deployment_and_no_series() -> None:
    async def play(one: Stage) -> None:
        await until(lambda: one.status().get("desiredReplicas") == 3, "the first decision")
        one.kubernetes.remove(CONSUMERS, "orders")
        await until(lambda: one.scaling.recall(Key("shop", "orders")) is None, "it is forgotten")
        looks = one.sampled()
        await one.turns(5)
        assert one.sampled() <= looks + 1
        assert one.kubernetes.replicas() == 3
        assert 'name="orders"' not in one.metrics.exposition().decode()

    story(play, replicas=3, scaling={"pollSeconds": 1, "minReplicas": 3})


def test_what_is_under_way_at_a_deletion_makes_no_series_again() -> None:
    async def play(one: Stage) -> None:
        await until(lambda: one.status().get("desiredReplicas") == 1, "the first decision")
        one.recorder.during.append(lambda: one.kubernetes.remove(CONSUMERS, "orders"))
        one.sampler.gaps = {Gap.UNREACHABLE: "no broker answers"}
        await until(lambda: not one.recorder.during, "it is deleted while something is told about it")
        await until(lambda: one.scaling.recall(Key("shop", "orders")) is None, "it is forgotten")
        await one.turns(5)
        assert 'name="orders"' not in one.metrics.exposition().decode()

    story(play)


def states(one: Stage) -> dict[str, float]:
    """Return the partitions by the state that the metrics give them."""
    families = text_string_to_metric_families(one.metrics.exposition().decode())
    [family] = (family for family in families if family.name == "lagscaler_partitions")
    return {sample.labels["state"]: sample.value for sample in family.samples}


def test_partitions_are_counted_by_the_policys_own_words() -> None:
    async def play(one: Stage) -> None:
        await until(lambda: one.condition("SLOMet") == ("True", "Within"), "the first look is shown")
        assert states(one) == {state: 4 if state is PartitionState.OK else 0 for state in PartitionState}
        one.sampler.lag = 100
        await until(lambda: one.condition("PartitionStalled") == ("True", "Stalled"), "nothing moves")
        assert states(one) == {state: 4 if state is PartitionState.STALLED else 0 for state in PartitionState}
        one.sampler.nobody = True
        await until(lambda: one.condition("PartitionStalled") == ("True", "Stopped"), "nobody is there")
        assert states(one)["Stopped"] == 4
        one.sampler.gaps, one.sampler.blind = {Gap.UNREACHABLE: "no broker answers"}, True
        await until(lambda: one.condition("MetricsFresh")[0] == "False", "nothing is seen")
        # What was seen last stands, so that an alert does not begin to wait anew.
        assert states(one)["Stopped"] == 4

    story(play, stall={"afterSeconds": 2})


def test_a_status_that_somebody_broke_is_read_anew() -> None:
    async def whole() -> None:
        one = Stage()
        one.kubernetes.put(DEPLOYMENTS, deployment_body(1))
        broken = {"policy": {"about": "main/g/t/worker", "state": "x"}}
        one.kubernetes.put(CONSUMERS, consumer_body(status=broken, **FAST))
        async with one.running():
            await until(lambda: one.condition("SLOMet") == ("True", "Within"), "it is looked at")
            await until(lambda: one.status()["policy"]["state"] != "x", "its state is kept anew")

    asyncio.run(whole())


@pytest.mark.parametrize("place", ["remembered", "decide"])
def test_one_consumers_fault_is_no_others(
    place: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def remembered(consumer: Any) -> None:
        if consumer.key.name == "broken":
            raise ZeroDivisionError

    def decided(history: Any, spec: Any, state: Any) -> Decision:
        if spec.latency == 7:
            raise ZeroDivisionError
        return decide(history, spec, state)

    async def whole() -> None:
        one = Stage()
        one.kubernetes.put(DEPLOYMENTS, deployment_body(1))
        one.kubernetes.put(DEPLOYMENTS, deployment_body(1, "second"))
        broken = {**FAST, "targetRef": {"name": "second"}, "slo": {"latencySeconds": 7}}
        one.kubernetes.put(CONSUMERS, consumer_body("broken", **broken))
        one.kubernetes.put(CONSUMERS, consumer_body(**FAST))
        async with one.running():
            await until(lambda: one.condition("SLOMet") == ("True", "Within"), "the other is looked at")
            one.sampler.lag = 100_000
            await until(lambda: one.kubernetes.replicas() == 4, "the other is scaled")
            assert one.kubernetes.replicas("second") == 1
        assert "KafkaConsumer shop/broken" in caplog.text

    if place == "remembered":
        monkeypatch.setattr(memory, "remembered", remembered)
    else:
        monkeypatch.setattr("lagscaler.controller.scaling.decide", decided)
    asyncio.run(whole())
    if place == "remembered":
        # It is found at every turn of the loop, and said once for each version of the resource.
        assert sum("could not be dealt with" in record.message for record in caplog.records) <= 2


def test_decisions_are_made_in_turns_and_their_delay_includes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    made = 0

    def slow(history: Any, spec: Any, state: Any) -> Decision:
        nonlocal made
        made += 1
        time.sleep(0.001)
        return decide(history, spec, state)

    async def whole() -> None:
        one = Stage()
        one.clock = Clock(1)
        one.sampler = FakeSampler(one.clock)
        one.start()
        for number in range(3 * TURN):
            one.kubernetes.put(DEPLOYMENTS, deployment_body(1, f"worker-{number}"))
            spec = {**FAST, "scaling": {"pollSeconds": 300}, "capacity": {"windowSeconds": 900}}
            one.kubernetes.put(
                CONSUMERS, consumer_body(f"c{number}", **{**spec, "targetRef": {"name": f"worker-{number}"}})
            )
        steps = [0]
        async with one.running():
            while made < 3 * TURN:
                await asyncio.sleep(0)
                steps.append(made)
        assert max(after - before for before, after in itertools.pairwise(steps)) <= TURN
        [total] = (
            sample.value
            for family in text_string_to_metric_families(one.metrics.exposition().decode())
            for sample in family.samples
            if sample.name == "lagscaler_decision_delay_seconds_sum"
        )
        assert total >= 3 * TURN * 0.001

    monkeypatch.setattr("lagscaler.controller.scaling.decide", slow)
    asyncio.run(whole())


def test_one_clusters_failure_is_no_others() -> None:
    async def whole() -> None:
        one = Stage()
        broken = FakeSampler(one.clock)
        broken.failure = RuntimeError("a fault of ours")
        one.scaling.samplers["other"] = broken
        one.kubernetes.put(DEPLOYMENTS, deployment_body(1))
        one.kubernetes.put(DEPLOYMENTS, deployment_body(1, "second"))
        one.kubernetes.put(CONSUMERS, consumer_body(**FAST))
        one.kubernetes.put(CONSUMERS, consumer_body("broken", cluster="other", targetRef={"name": "second"}))
        async with one.running():
            await until(lambda: one.condition("SLOMet") == ("True", "Within"), "the first is looked at")
            await until(lambda: len(broken.asked) >= 3, "the other is tried again and again")

    asyncio.run(whole())


def test_consumers_of_one_period_are_looked_at_together() -> None:
    async def whole() -> None:
        one = Stage()
        for number in range(50):
            one.kubernetes.put(DEPLOYMENTS, deployment_body(1, f"worker-{number}"))
            one.kubernetes.put(
                CONSUMERS, consumer_body(f"c{number}", **{**FAST, "targetRef": {"name": f"worker-{number}"}})
            )
        async with one.running():
            await until(lambda: any(len(asked) == 50 for asked in one.sampler.asked), "one look for all")
            await until(lambda: one.condition("SLOMet", "c49") == ("True", "Within"), "all are shown")

    asyncio.run(whole())


def test_figures_alone_are_not_written_with_every_look() -> None:
    async def play(one: Stage) -> None:
        await until(lambda: one.condition("SLOMet") == ("True", "Within"), "the first look is shown")
        await one.polls(3)
        written, began = len(one.kubernetes.patches), one.clock()
        for lag in range(1, 41):
            one.sampler.lag = lag
            await one.polls(1)
        # Some seconds lie between two of them, however long it took; some are for a reason that changed.
        assert 1 <= len(one.kubernetes.patches) - written <= (one.clock() - began) / shown.FIGURES_EVERY + 5

    story(play, mode="Paused", slo={"latencySeconds": 3000})


def test_manual_is_obeyed_while_kafka_is_away() -> None:
    async def play(one: Stage) -> None:
        one.sampler.gaps = {Gap.UNREACHABLE: "no broker answers"}
        one.kubernetes.change(CONSUMERS, "orders", mode="Manual", replicas=6)
        await until(lambda: one.kubernetes.replicas() == 6, "six replicas")
        await until(lambda: one.condition("Ready") == ("True", "Manual"), "it is shown")

    story(play)


def test_another_autoscaler_stops_all_scaling_until_it_goes() -> None:
    async def play(one: Stage) -> None:
        claim = {"metadata": metadata("hpa"), "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "worker"}}}
        one.kubernetes.put(AUTOSCALERS, claim)
        await until(lambda: one.condition("Ready") == ("False", "TargetContested"), "it is told")
        one.sampler.lag = 100_000
        await one.polls(4)
        assert one.kubernetes.scaled == []
        one.kubernetes.remove(AUTOSCALERS, "hpa")
        await until(lambda: one.kubernetes.replicas() == 4, "it scales again")

    story(play)


@pytest.mark.parametrize("stage", [None, "live"])
def test_a_live_service_is_not_scaled_to_zero(stage: str | None) -> None:
    async def play(one: Stage) -> None:
        one.stage = stage
        await until(lambda: one.condition("SLOMet") == ("True", "Within"), "the first look is shown")
        await one.polls(8)
        assert one.kubernetes.replicas() == 1
        one.stage = "off"
        await until(lambda: one.kubernetes.replicas() == 0, "it goes to zero")

    story(play, service="orders", idle={"toZero": True, "afterSeconds": 1})


def test_a_cluster_that_is_not_for_its_namespace_is_not_asked() -> None:
    async def play(one: Stage) -> None:
        await until(lambda: one.condition("SLOMet") == ("True", "Within"), "the first look is shown")
        one.world.settings = Settings({"main": replace(SETTINGS.clusters["main"], namespaces=("other",))})
        one.kubernetes.change(CONSUMERS, "orders", slo={"latencySeconds": 7})
        await until(lambda: one.condition("Ready") == ("False", "ClusterUnknown"), "it is told")
        assert condition_of(one.status(), "Ready")["message"] == (
            "the namespace shop may not use the Kafka cluster 'main'; it may once clusters.main.namespaces of the"
            " operator's settings names it."
        )
        looks = one.sampled()
        one.sampler.lag = 100_000
        await one.turns(5)
        assert (one.sampled(), one.kubernetes.scaled) == (looks, [])
        one.world.settings = SETTINGS
        await until(lambda: one.kubernetes.replicas() == 4, "it is scaled")

    story(play)


def test_the_stage_of_a_bridge_that_is_not_for_its_namespace_is_not_seen() -> None:
    async def play(one: Stage) -> None:
        one.stage = "off"
        one.world.settings = replace(SETTINGS, bridges={})
        await until(lambda: one.condition("SLOMet") == ("True", "Within"), "the first look is shown")
        await one.polls(8)
        assert "stage" not in one.status()
        # A service whose stage is not known may be live.
        assert one.kubernetes.replicas() == 1

    story(play, service="orders", idle={"toZero": True, "afterSeconds": 1})
