"""What is to be done about a KafkaConsumer, case by case."""

from __future__ import annotations

from typing import Any

import pytest

from lagscaler.controller.consumer import Held, Look, Plan, floor, plan
from lagscaler.controller.verdicts import Surroundings
from lagscaler.policy.model import Gap, PartitionState, Reason, State
from lagscaler.resources.conditions import condition_of
from lagscaler.resources.consumer import KafkaConsumer, Mode
from lagscaler.resources.reading import Key
from lagscaler.resources.target import Claim, Target
from tests.unit.lagscaler.builders import consumer, decision, target

NOW = 1_800_000_000.0


def look(replicas: int, reason: Reason = Reason.STEADY, gaps: Any = None, **more: Any) -> Look:
    return Look(decision(replicas, reason, **more), gaps or {}, 4)


def planned(
    one: KafkaConsumer,
    there: Target | None,
    seen: Look | None = None,
    held: Held | None = None,
    *,
    fresh: bool = True,
    **around: Any,
) -> Plan:
    return plan(one, Surroundings(there, **around), held or Held(), seen, NOW, fresh=fresh)


def ready(found: Plan) -> tuple[str, str]:
    one = condition_of(found.status, "Ready")
    return one["status"], one["reason"]


def told(found: Plan) -> list[str]:
    return [notice.reason for notice in found.notices]


AUTO, MANUAL = Held(3, mode=Mode.AUTO), Held(3, mode=Mode.MANUAL)
UP, SAME = look(5, Reason.BEHIND), look(3)

WRITES: list[tuple[str, dict[str, Any], int, Look | None, Held, bool, int | None]] = [
    ("a fresh decision is carried out", {}, 3, UP, AUTO, True, 5),
    ("one that changes nothing writes nothing", {}, 3, SAME, AUTO, True, None),
    ("an old decision is not carried out after a start", {}, 3, UP, Held(), False, None),
    ("somebody else's number is undone", {}, 7, SAME, AUTO, False, 3),
    ("a number that nobody held is taken as it is", {}, 7, SAME, Held(), False, None),
    ("a write whose answer was lost is made again", {}, 2, SAME, Held(3, mode=Mode.AUTO, unsure=True), False, 3),
    ("paused touches nothing", {"mode": "Paused"}, 7, UP, AUTO, True, None),
    ("a dry run touches nothing", {"mode": "DryRun"}, 3, UP, AUTO, True, None),
    ("manual obeys", {"mode": "Manual", "replicas": 4}, 3, UP, AUTO, True, 4),
    ("manual needs no look", {"mode": "Manual", "replicas": 4}, 3, None, Held(), False, 4),
    ("manual undoes others", {"mode": "Manual", "replicas": 3}, 9, None, MANUAL, False, 3),
    ("manual without a number waits for one", {"mode": "Manual"}, 3, UP, Held(), False, None),
    ("zero in its turn", {"idle": {"toZero": True}}, 3, look(0, Reason.IDLE), AUTO, True, 0),
    (
        "from zero in its turn",
        {"idle": {"toZero": True}},
        0,
        look(1, Reason.ACTIVATED),
        Held(0, mode=Mode.AUTO),
        True,
        1,
    ),
    ("zero by hand is left", {}, 0, look(1, Reason.BOUNDS), AUTO, True, None),
    ("zero by hand is left from the first moment", {}, 0, look(1, Reason.BOUNDS), Held(), True, None),
    ("back from zero by hand nothing is undone", {}, 2, SAME, Held(None, off=True, mode=Mode.AUTO), False, None),
]


@pytest.mark.parametrize(("spec", "there", "seen", "held", "fresh", "write"), [row[1:] for row in WRITES],
                         ids=[row[0] for row in WRITES])  # fmt: skip
def test_what_is_written(
    spec: dict[str, Any], there: int, seen: Look | None, held: Held, fresh: bool, write: int | None
) -> None:
    assert planned(consumer(**spec), target(there), seen, held, fresh=fresh).write == write


def test_manual_without_a_number_keeps_what_is_there_whatever_else_changes() -> None:
    found = planned(consumer(mode="Manual", meta={"generation": 2}), target(3), UP, MANUAL)
    assert (found.write, found.held.desired) == (None, None)
    assert "nobody said how many" in found.status["message"]
    zero = planned(consumer(mode="Manual", replicas=0), target(3), UP, MANUAL)
    assert (zero.write, zero.status["desiredReplicas"]) == (0, 0)


def test_a_change_is_told_and_shown_with_its_reason() -> None:
    found = planned(consumer(), target(3), look(5, Reason.BEHIND, sentence="84 s behind: 3 → 5."), AUTO)
    assert found.scaled is not None
    assert (found.scaled.reason, found.scaled.message, found.scaled.type) == (
        "ScaledUp",
        "84 s behind: 3 → 5.",
        "Normal",
    )
    assert found.last_scale == {"time": "2027-01-15T08:00:00Z", "from": 3, "to": 5, "reason": "Behind"}
    assert found.status["desiredReplicas"] == 5
    assert (found.status["reason"], found.status["message"]) == ("Behind", "84 s behind: 3 → 5.")
    assert found.held == Held(5, mode=Mode.AUTO)
    down = planned(consumer(), target(3), look(1, Reason.SURPLUS), AUTO)
    assert down.scaled is not None
    assert down.scaled.reason == "ScaledDown"


def test_an_overwritten_number_names_who_wrote_it() -> None:
    found = planned(consumer(), target(7, writer="kubectl"), SAME, AUTO, fresh=False)
    assert found.overwrites
    assert found.scaled is None
    assert [(one.type, one.reason) for one in found.notices] == [("Warning", "ReplicasOverwritten")]
    assert found.notices[0].message.startswith("kubectl set the replicas to 7, back to 3;")
    manual = planned(consumer(mode="Manual", replicas=3), target(7), None, MANUAL, fresh=False)
    assert manual.overwrites
    changed = planned(consumer(mode="Manual", replicas=5), target(3), None, MANUAL, fresh=False)
    assert (changed.write, changed.overwrites) == (5, False)


OBSTACLES: list[tuple[str, dict[str, Any], Target | None, dict[str, Any]]] = [
    ("TargetMissing", {}, None, {}),
    ("ClusterUnknown", {}, target(3), {"cluster_known": False}),
    ("ClusterUnknown", {}, target(3), {"admitted": False}),
    ("TargetTaken", {}, target(3), {"elder": consumer("first")}),
    (
        "TargetContested", {}, target(3),
        {"claims": [Claim("HorizontalPodAutoscaler", Key("shop", "hpa"), Key("shop", "worker"))]},
    ),
    ("SwitchedOff", {}, target(0), {}),
    ("TargetMissing", {"mode": "Manual", "replicas": 2}, None, {}),
]  # fmt: skip


@pytest.mark.parametrize(("reason", "spec", "there", "around"), OBSTACLES)
def test_what_stands_in_the_way_is_told_once_and_nothing_is_written(
    reason: str, spec: dict[str, Any], there: Target | None, around: dict[str, Any]
) -> None:
    one = consumer(**spec)
    found = planned(one, there, look(5, Reason.BEHIND), AUTO, **around)
    assert ready(found) == ("False", reason)
    assert (found.write, found.status["reason"], told(found)) == (None, reason, [reason])
    assert "desiredReplicas" not in found.status
    assert found.held.desired is None
    again = planned(consumer(status=found.status, **spec), there, look(5, Reason.BEHIND), found.held, **around)
    assert told(again) == []
    assert again.status["conditions"] == found.status["conditions"]


def test_a_refused_write_is_made_again_and_shown_until_there_is_none_to_make() -> None:
    held = Held(5, mode=Mode.AUTO, unsure=True, refused='deployments.apps "worker" is forbidden.')
    found = planned(consumer(), target(3), UP, held)
    assert (ready(found), found.write, found.held.refused) == (("False", "ScaleRefused"), 5, held.refused)
    assert (found.status["desiredReplicas"], found.status["reason"]) == (5, "ScaleRefused")
    assert told(found) == ["ScaleRefused"]
    assert found.notices[0].message == (
        'the API server refuses to scale the Deployment worker: deployments.apps "worker" is forbidden.'
    )
    assert told(planned(consumer(status=found.status), target(3), UP, held)) == []
    enough = planned(consumer(status=found.status), target(3), SAME, held)
    assert (ready(enough), enough.held.refused) == (("True", "Auto"), "")
    contested = [Claim("ScaledObject", Key("shop", "keda"), Key("shop", "worker"))]
    assert ready(planned(consumer(), target(3), UP, held, claims=contested)) == ("False", "TargetContested")


def test_while_paused_another_autoscaler_is_fine() -> None:
    claim = Claim("ScaledObject", Key("shop", "keda"), Key("shop", "worker"))
    assert ready(planned(consumer(mode="Paused"), target(3), SAME, claims=[claim])) == ("True", "Paused")


def test_a_consumer_at_zero_by_its_own_doing_is_not_switched_off() -> None:
    before = {"desiredReplicas": 0}
    found = planned(consumer(status=before), target(0), look(1, Reason.BOUNDS), Held())
    assert found.write == 1


def test_a_dry_run_shows_what_it_would_do() -> None:
    found = planned(consumer(mode="DryRun"), target(3), UP, Held())
    assert found.status["desiredReplicas"] == 5
    assert ready(found) == ("True", "DryRun")
    assert "lastScale" not in found.status


def test_figures_are_rounded_so_that_a_status_rests() -> None:
    states = {("t", 0): PartitionState.STALLED, ("t", 1): PartitionState.HOT, ("t", 2): PartitionState.LAGGING}
    found = planned(
        consumer(),
        target(3),
        look(3, lag=12_345, behind=83.6, arrival_rate=41.27, capacity=9.876, partitions=states),
        AUTO,
    )
    expected = {
        "lag": 12_300, "lagSeconds": 84, "arrivalRate": 41.0, "capacityPerReplica": 9.9, "replicas": 3,
        "readyReplicas": 3, "selector": "app=worker", "observedGeneration": 1,
        "partitions": {"total": 4, "lagging": 1, "stalled": 1, "hot": 1},
    }  # fmt: skip
    assert {name: found.status[name] for name in expected} == expected


CONDITIONS: list[tuple[Look, str, str, str]] = [
    (SAME, "MetricsFresh", "True", "Complete"),
    (look(3, gaps={Gap.DENIED_GROUP: "Describe on g is missing"}), "MetricsFresh", "False", "GroupDenied"),
    (look(3, behind=59), "SLOMet", "True", "Within"),
    (look(3, behind=61), "SLOMet", "False", "Behind"),
    (look(3, gaps={Gap.UNREACHABLE: "no broker"}), "SLOMet", "Unknown", "Incomplete"),
    (look(3, Reason.LIMITED), "ScalingLimited", "True", "Limited"),
    (look(3, Reason.BUDGET), "ScalingLimited", "True", "RebalanceBudget"),
    (SAME, "ScalingLimited", "False", "WithinLimits"),
    (look(3, Reason.INEFFECTIVE), "ScalingEffective", "False", "Ineffective"),
    (SAME, "ScalingEffective", "True", "Effective"),
    (look(3, partitions={("t", 7): PartitionState.STOPPED}), "PartitionStalled", "True", "Stopped"),
    (SAME, "PartitionStalled", "False", "Progress"),
    (look(3, partitions={("t", 7): PartitionState.HOT}), "PartitionHot", "True", "Hot"),
    (SAME, "PartitionHot", "False", "Even"),
    (SAME, "Paused", "False", "Auto"),
]


@pytest.mark.parametrize(("seen", "name", "status", "reason"), CONDITIONS)
def test_conditions(seen: Look, name: str, status: str, reason: str) -> None:
    one = condition_of(planned(consumer(), target(3), seen, AUTO).status, name)
    assert (one["status"], one["reason"]) == (status, reason)
    assert one["message"].endswith(".")


@pytest.mark.parametrize(
    ("uncommitted", "lost", "sentence"),
    [
        (0, [], ""),
        (1, [], " 1 of 4 partitions has no committed offset."),
        (
            4, [NOW - 60] * 4,
            " 4 of 4 partitions have no committed offset and had one until 2027-01-15T07:59:00Z:"
            " expired or deleted, alone or with the group or the topic.",
        ),
        (
            3, [NOW - 60, NOW],
            " 3 of 4 partitions have no committed offset; 2 of these had one until 2027-01-15T08:00:00Z:"
            " expired or deleted, alone or with the group or the topic.",
        ),
    ],
)  # fmt: skip
def test_partitions_without_a_committed_offset_are_told_of(uncommitted: int, lost: list[float], sentence: str) -> None:
    state = State(lost_commits={("t", number): at for number, at in enumerate(lost)})
    seen = Look(decision(3, state=state), {}, 4, uncommitted)
    one = condition_of(planned(consumer(), target(3), seen, AUTO).status, "MetricsFresh")
    assert (one["status"], one["message"]) == ("True", "Every partition was answered for." + sentence)


def test_a_condition_keeps_its_time_until_its_status_changes() -> None:
    first = planned(consumer(), target(3), look(3, behind=61), AUTO)
    one = consumer(status=first.status)
    later = plan(one, Surroundings(target(3)), AUTO, look(3, behind=99), NOW + 60, fresh=True)
    met = plan(one, Surroundings(target(3)), AUTO, look(3, behind=1), NOW + 60, fresh=True)
    times = [condition_of(found.status, "SLOMet")["lastTransitionTime"] for found in (first, later, met)]
    assert times[0] == times[1] != times[2]


def test_people_are_told_once_of_what_goes_wrong() -> None:
    bad = look(
        3, Reason.BUDGET, gaps={Gap.UNREACHABLE: "no broker"}, partitions={("t", 0): PartitionState.STALLED},
        sentence="Used up.",
    )  # fmt: skip
    first = planned(consumer(status=planned(consumer(), target(3), SAME, AUTO).status), target(3), bad, AUTO)
    assert told(first) == ["MetricsStale", "PartitionStalled", "ScaleHeld"]
    assert [one.message for one in first.notices][-1] == "Used up."
    assert told(planned(consumer(status=first.status), target(3), bad, AUTO)) == []


def test_before_the_first_look_a_new_one_is_starting_and_an_old_one_stays_as_it_was() -> None:
    fresh = planned(consumer(), target(3), None, fresh=False)
    assert ready(fresh) == ("Unknown", "Starting")
    assert condition_of(fresh.status, "MetricsFresh")["status"] == "Unknown"
    before = planned(consumer(), target(3), look(3, lag=9, behind=4), AUTO).status
    assert planned(consumer(status=before), target(3), None, fresh=False).status == before


@pytest.mark.parametrize(
    ("service", "stage", "to_zero"),
    [(None, None, True), ("s", "live", False), ("s", None, False), ("s", "off", True), ("s", "complete", True)],
)
def test_while_its_service_is_live_one_replica_stays(service: str | None, stage: str | None, to_zero: bool) -> None:
    spec = {"service": service} if service else {}
    found = floor(consumer(idle={"toZero": True}, **spec), stage)
    assert found.to_zero is to_zero
    assert found.min_replicas == 1


def test_the_stage_is_shown_and_kept_while_the_bridge_is_silent() -> None:
    one = consumer(service="orders")
    assert planned(one, target(3), SAME, AUTO, stage="live").status["stage"] == "live"
    silent = planned(consumer(service="orders", status={"stage": "live"}), target(3), SAME, AUTO)
    assert silent.status["stage"] == "live"
    assert "stage" not in planned(consumer(status={"stage": "live"}), target(3), SAME, AUTO).status
