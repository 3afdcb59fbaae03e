"""
What is to be done about one KafkaConsumer: which replicas to write, what the status says, what people are told.

Pure: everything that counts is an argument.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from lagscaler.controller.verdicts import Obstacle, Surroundings, obstacle, refusal, switched_off
from lagscaler.kubernetes.events import Notice
from lagscaler.policy.model import Decision, Gap, PartitionState, Reason, Spec
from lagscaler.resources.conditions import Condition, condition_of, truth, written
from lagscaler.resources.consumer import KafkaConsumer, Mode
from lagscaler.resources.reading import time_text
from lagscaler.resources.target import Target

HELD = frozenset({Reason.BUDGET, Reason.INEFFECTIVE, Reason.LIMITED, Reason.HOT, Reason.FALLBACK})
"""Reasons to keep replicas that people are told of: something else than waiting would help."""

STUCK = frozenset({PartitionState.STALLED, PartitionState.STOPPED, PartitionState.REWOUND})

_TOLD = {
    "MetricsFresh": ("False", "MetricsStale"),
    "PartitionStalled": ("True", "PartitionStalled"),
    "PartitionHot": ("True", "PartitionHot"),
}
"""Conditions that people are told of, with the status that is bad and the event's reason."""

_OF_KAFKA = ("MetricsFresh", "SLOMet")

NAMED = 5
"""Partitions that a sentence names."""


@dataclass(frozen=True, slots=True)
class Look:
    """What was last learned of Kafka, and decided."""

    decision: Decision
    gaps: Mapping[Gap, str]
    partitions: int
    """Partitions of the topics, as far as known."""
    uncommitted: int = 0
    """Those of them that the group has no committed offset of."""


@dataclass(frozen=True, slots=True)
class Held:
    """What the operator holds on to between two looks."""

    desired: int | None = None
    """Replicas that it last wanted; None after a start, or while others decide."""
    off: bool = False
    """Whether somebody else had set the Deployment to zero."""
    mode: Mode | None = None
    """The mode at the last look."""
    unsure: bool = False
    """Whether the last write of replicas got no answer, so that it is not known whose number stands there."""
    refused: str = ""
    """What the API server said when it refused the last write of replicas; empty when it did not."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done."""

    status: dict[str, Any]
    write: int | None = None
    """Replicas to write to the Deployment; None: nothing."""
    notices: tuple[Notice, ...] = ()
    """To be told whatever becomes of the write."""
    scaled: Notice | None = None
    """To be told once the write is done."""
    last_scale: Mapping[str, Any] = field(default_factory=dict)
    """What the status says of the write, once it is done."""
    held: Held = Held()
    """What is held from now on: who writes other replicas is corrected."""
    overwrites: bool = False
    """Whether the write undoes somebody else's."""


def floor(consumer: KafkaConsumer, stage: str | None) -> Spec:
    """
    Return the policy's spec, with at least one replica where the bridge's service needs one.

    That is while the service is live; and while its stage is not known, as it may be.
    """
    spec = consumer.policy
    if consumer.service is None or stage in {"off", "mirror", "shadow", "complete"}:
        return spec
    return replace(spec, to_zero=False, min_replicas=max(1, spec.min_replicas))


def plan(
    consumer: KafkaConsumer, around: Surroundings, held: Held, look: Look | None, now: float, *, fresh: bool
) -> Plan:
    """
    Return what to do about a consumer.

    `look` is the last one, None when there was none; `fresh` says that it is of this moment: only then a decision is
    carried out, otherwise what was decided is held against others.
    """
    target = around.target
    last = held.desired if held.desired is not None else consumer.status.get("desiredReplicas")
    off = switched_off(consumer, target, last, before=held.off)
    against = obstacle(consumer, around, off=off)
    wanted = None if against else _wanted(consumer, held, look, fresh=fresh)
    write = wanted if target is not None and wanted is not None and wanted != target.replicas else None
    refused = held.refused if write is not None else ""
    if refused:
        against = refusal(consumer, refused)
    notices = _told(consumer, against, look)
    scaled, last_scale, overwrites = None, {}, False
    if target is not None and write is not None:
        reason, sentence = _why(consumer, look, f"{target.replicas} → {write}")
        last_scale = {"time": time_text(now), "from": target.replicas, "to": write, "reason": reason}
        overwrites = _foreign(consumer, held, target)
        if overwrites:
            notices.append(_overwritten(target, write))
        else:
            direction = "ScaledUp" if write > target.replicas else "ScaledDown"
            scaled = Notice("Normal", direction, sentence)
    return Plan(
        status=_status(consumer, around, against, look, wanted, now),
        write=write,
        notices=tuple(notices),
        scaled=scaled,
        last_scale=last_scale,
        held=Held(wanted, off, consumer.mode, refused=refused),
        overwrites=overwrites,
    )


def _wanted(consumer: KafkaConsumer, held: Held, look: Look | None, *, fresh: bool) -> int | None:
    """Return how many replicas there should be now; None: however many there are."""
    if consumer.mode is Mode.MANUAL:
        return consumer.replicas
    if consumer.mode is not Mode.AUTO:
        return None
    if fresh and look is not None:
        return look.decision.replicas
    # After a start, or back from zero, what is there is where the policy goes on from.
    return None if held.off else held.desired


def _foreign(consumer: KafkaConsumer, held: Held, target: Target) -> bool:
    """Return whether somebody else wrote the replicas that are to be replaced."""
    if held.desired is None or held.off or held.unsure or held.mode is not consumer.mode:
        return False
    if consumer.mode is Mode.MANUAL and held.desired != consumer.replicas:
        return False
    return target.replicas != held.desired


def _overwritten(target: Target, wanted: int) -> Notice:
    return Notice(
        "Warning",
        "ReplicasOverwritten",
        f"{target.writer or 'somebody else'} set the replicas to {target.replicas}, back to {wanted};"
        " to set them by hand, set spec.mode to Manual",
    )


def _why(consumer: KafkaConsumer, look: Look | None, change: str) -> tuple[str, str]:
    if consumer.mode is Mode.MANUAL:
        return "Manual", f"spec.replicas asks for it: {change}."
    if look is None:
        return "Held", f"As it was decided before: {change}."
    return str(look.decision.reason), look.decision.sentence


def _status(
    consumer: KafkaConsumer,
    around: Surroundings,
    against: Obstacle | None,
    look: Look | None,
    wanted: int | None,
    now: float,
) -> dict[str, Any]:
    """
    Return the status, but for what the policy remembers.

    Until Kafka was looked at, the last look before the operator's restart stands.
    """
    before = consumer.status
    status: dict[str, Any] = {}
    if look is None:
        status |= {name: value for name, value in before.items() if name != "desiredReplicas"}
        if against is None and before.get("observedGeneration") == consumer.generation:
            return dict(before)
    else:
        status |= {name: before[name] for name in ("lastScale", "policy") if name in before}
        status |= _figures(look, now)
    reason, message = _reason(consumer, against, look)
    known = before.get("conditions") or ()
    status |= {
        "observedGeneration": consumer.generation,
        "reason": reason,
        "message": message,
        "conditions": written(_conditions(consumer, against, look, message), known, consumer.generation, now),
    }
    if around.target is not None:
        target = around.target
        status |= {"replicas": target.present, "readyReplicas": target.ready, "selector": target.selector}
    if consumer.mode is Mode.DRY_RUN and look and not against:
        wanted = look.decision.replicas
    if wanted is not None:
        status["desiredReplicas"] = wanted
    if around.stage is not None:
        status["stage"] = around.stage
    elif consumer.service is not None and "stage" in before:
        status["stage"] = before["stage"]
    else:
        status.pop("stage", None)
    return status


def _figures(look: Look, now: float) -> dict[str, Any]:
    decision = look.decision
    states = Counter(decision.partitions.values())
    found: dict[str, Any] = {
        "lag": int(rounded(decision.lag, 3)),
        "lagSeconds": int(rounded(decision.behind, 2)),
        "partitions": {
            "total": look.partitions,
            "lagging": states[PartitionState.LAGGING],
            "stalled": sum(states[state] for state in STUCK),
            "hot": states[PartitionState.HOT],
        },
        "rebalancesLastHour": sum(1 for at in decision.state.changes if at > now - 3600),
    }
    if decision.arrival_rate is not None:
        found["arrivalRate"] = rounded(decision.arrival_rate, 2)
    if decision.capacity is not None:
        found["capacityPerReplica"] = rounded(decision.capacity, 2)
    return found


def _reason(consumer: KafkaConsumer, against: Obstacle | None, look: Look | None) -> tuple[str, str]:
    """Return why there are as many replicas as there are: a word and a sentence."""
    if against is not None:
        return against.reason, f"{against.message}."
    if consumer.mode is Mode.PAUSED:
        return "Paused", "Paused: nothing is scaled until spec.mode is another."
    if consumer.mode is Mode.MANUAL:
        if consumer.replicas is None:
            return "Manual", f"Manual, and nobody said how many: kubectl scale kcon/{consumer.key.name} --replicas=3."
        return "Manual", f"Manual: spec.replicas asks for {consumer.replicas}."
    if look is None:
        return "Starting", "Kafka was not looked at yet."
    return str(look.decision.reason), look.decision.sentence


def _conditions(consumer: KafkaConsumer, against: Obstacle | None, look: Look | None, message: str) -> list[Condition]:
    """Return the conditions; their messages have no figures that change with every look."""
    mode = str(consumer.mode)
    if against is not None:
        ready = Condition("Ready", "False", against.reason, message)
    elif look is None and consumer.mode in {Mode.AUTO, Mode.DRY_RUN}:
        ready = Condition("Ready", "Unknown", "Starting", message)
    else:
        ready = Condition("Ready", "True", mode, f"Replicas are decided in mode {mode}.")
    paused = consumer.mode is Mode.PAUSED
    found = [ready, Condition("Paused", truth(paused), mode, f"The mode is {mode}.")]
    if look is None:
        return [*found, *(Condition(name, "Unknown", "Starting", "Kafka was not looked at yet.") for name in _OF_KAFKA)]
    return [*found, _fresh(look), _objective(consumer, look), *_findings(look.decision)]


def _fresh(look: Look) -> Condition:
    if not look.gaps:
        return Condition("MetricsFresh", "True", "Complete", "Every partition was answered for." + _uncommitted(look))
    sentences = " ".join(f"{sentence.rstrip('.')}." for sentence in look.gaps.values())
    return Condition("MetricsFresh", "False", str(next(iter(look.gaps))), sentences)


def _uncommitted(look: Look) -> str:
    """Return how many partitions have no committed offset, and whether they had one; empty when all have one."""
    if not look.uncommitted:
        return ""
    has = "has" if look.uncommitted == 1 else "have"
    said = f" {look.uncommitted} of {look.partitions} partitions {has} no committed offset"
    lost = look.decision.state.lost_commits
    if not lost:
        return f"{said}."
    had = " and had one" if len(lost) == look.uncommitted else f"; {len(lost)} of these had one"
    until = time_text(max(lost.values()))
    return f"{said}{had} until {until}: expired or deleted, alone or with the group or the topic."


def _objective(consumer: KafkaConsumer, look: Look) -> Condition:
    limit = f"{consumer.policy.latency:g} s"
    if look.gaps and look.decision.behind <= consumer.policy.latency:
        return Condition("SLOMet", "Unknown", "Incomplete", "The last look was incomplete.")
    if look.decision.behind <= consumer.policy.latency:
        return Condition("SLOMet", "True", "Within", f"The oldest unfinished record is at most {limit} old.")
    return Condition("SLOMet", "False", "Behind", f"The oldest unfinished record is older than {limit}.")


def _findings(decision: Decision) -> list[Condition]:
    limited = decision.reason in {Reason.LIMITED, Reason.BUDGET, Reason.HOT}
    effective = decision.reason is not Reason.INEFFECTIVE
    stuck = sorted(where for where, state in decision.partitions.items() if state in STUCK)
    hot = sorted(where for where, state in decision.partitions.items() if state is PartitionState.HOT)
    return [
        Condition(
            "ScalingLimited",
            truth(limited),
            str(decision.reason) if limited else "WithinLimits",
            "More replicas are wanted than may be had." if limited else "As many replicas are there as are wanted.",
        ),
        Condition(
            "ScalingEffective",
            truth(effective),
            "Effective" if effective else "Ineffective",
            "Added replicas shorten the lag." if effective else "Replicas that were added did not shorten the lag.",
        ),
        Condition(
            "PartitionStalled",
            truth(bool(stuck)),
            str(decision.partitions[stuck[0]]) if stuck else "Progress",
            f"No progress in {_names(stuck)}." if stuck else "Every partition with lag makes progress.",
        ),
        Condition(
            "PartitionHot",
            truth(bool(hot)),
            "Hot" if hot else "Even",
            f"More than one replica can do comes in {_names(hot)}."
            if hot
            else "No partition is too much for a replica.",
        ),
    ]


def _names(partitions: list[tuple[str, int]]) -> str:
    named = ", ".join(f"{topic}-{number}" for topic, number in partitions[:NAMED])
    return named + (f" and {len(partitions) - NAMED} more" if len(partitions) > NAMED else "")


def _told(consumer: KafkaConsumer, against: Obstacle | None, look: Look | None) -> list[Notice]:
    """Return what is new since the last status."""
    found: list[Notice] = []
    before = consumer.status
    if against is not None and condition_of(before, "Ready").get("reason") != against.reason:
        found.append(Notice("Warning", against.reason, f"{against.message}."))
    if look is None:
        return found
    for condition in (_fresh(look), *_findings(look.decision)):
        bad, reason = _TOLD.get(condition.type, ("", ""))
        if condition.status == bad != condition_of(before, condition.type).get("status"):
            found.append(Notice("Warning", reason, condition.message))
    held = look.decision.reason in HELD and consumer.mode is Mode.AUTO and against is None
    if held and before.get("reason") != str(look.decision.reason):
        found.append(Notice("Normal", "ScaleHeld", look.decision.sentence))
    return found


def rounded(value: float, digits: int) -> float:
    """Return a number of at most so many significant digits, so that a status does not change with every look."""
    return float(f"{value:.{digits}g}")
