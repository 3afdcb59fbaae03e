"""
What the policy is told, what it remembers and what it answers: plain values.

Times are seconds since the epoch, durations seconds. Offsets are whole numbers in production; simulations may use
fractions, so nothing here relies on their being whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

TopicPartition = tuple[str, int]
"""A topic and the number of one of its partitions."""

OffsetReset = Literal["earliest", "latest", "none"]
"""Where a consumer of the group begins in a partition that it has no valid offset for."""


class Gap(StrEnum):
    """Why a sample is incomplete."""

    UNREACHABLE = "KafkaUnreachable"
    """No broker answered in time."""
    DENIED_TOPIC = "TopicDenied"
    """Describe on a topic is missing, or cannot be shown to be there."""
    DENIED_GROUP = "GroupDenied"
    """Describe on the group is missing, or cannot be shown to be there."""
    AUTHENTICATION = "AuthenticationFailed"
    """The brokers refuse the credentials."""
    NO_TOPIC = "TopicMissing"
    """A topic that is named does not exist."""
    NO_LEADER = "PartitionUnavailable"
    """Some partition has no leader, or its leader did not answer."""
    OTHER = "KafkaError"
    """Something else, told by the sentence."""


@dataclass(frozen=True, slots=True)
class PartitionSample:
    """
    One partition at one poll.

    The committed offset was read before `start` and `end`, so lag is never too small by what was consumed meanwhile.
    """

    start: float
    """First offset that the log still has."""
    end: float
    """Offset behind the last record that a consumer may read: the last stable offset where `read_committed`."""
    committed: float | None
    """Offset at which the group resumes; None when it never committed, or what it committed has expired."""
    beyond: float = 0
    """Records finished beyond the committed offset, as the commit's metadata says."""
    busy: float | None = None
    """Share of time, 0 to 1, in which the worker that committed was at work, as the commit's metadata says."""
    member: str | None = None
    """Id of the group's member that owns the partition; None when nobody does or it is not known."""
    first_unread_at: float | None = None
    """When the first unread record was written, where Kafka was asked for it (after a restart of the operator)."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What one poll learned. Samples of one consumer come in ascending order of `at`."""

    at: float
    partitions: Mapping[TopicPartition, PartitionSample]
    """What is known, also of an incomplete sample. Complete means one for every partition of every topic."""
    replicas: int
    """Replicas that the Deployment's spec asks for."""
    ready: int
    """Pods of it that are ready."""
    members: int | None = None
    """Members of the group; None when not known."""
    rebalancing: bool = False
    """Whether the group is between two assignments."""
    gaps: Mapping[Gap, str] = field(default_factory=dict)
    """Why the sample is incomplete, each with a sentence; empty when it is complete."""

    @property
    def complete(self) -> bool:
        """Whether every partition was answered for."""
        return not self.gaps


@dataclass(frozen=True, slots=True)
class Spec:
    """What the owner of a consumer asks for. Field by field the `spec` of a KafkaConsumer; see its CRD for limits."""

    latency: float = 60.0
    """The objective: a record is consumed at most this long after it was written."""
    slack: float = 0.5
    """Share of `latency` that the policy plans with; the rest is reserve."""
    utilization: float = 0.92
    """Share of a replica's capacity that steady load may take."""
    min_replicas: int = 1
    max_replicas: int | None = None
    """None: as many as there are partitions, which is the limit in any case."""
    poll: float = 10.0
    """Between two samples."""
    capacity: float | None = None
    """Records a second of one replica; None: learned."""
    window: float = 600.0
    """How far back samples are kept and looked at."""
    rebalances_per_hour: int = 20
    scale_down_after: float = 120.0
    """For how long fewer replicas must have been enough before replicas are taken away."""
    cooldown: float = 60.0
    """After any change of replicas, before one is taken away."""
    to_zero: bool = False
    """Whether no replica at all may be left while there is nothing to do, whatever `min_replicas` says otherwise."""
    idle_after: float = 300.0
    """With `to_zero`: how long nothing may have come and nothing been left before the last replica goes."""
    activation_lag: float = 0
    """With `to_zero`: records of lag above which the first replica comes back."""
    stall_after: float = 120.0
    """A partition with lag whose offsets have not moved for this long, and whose owner is not at work, is stalled."""
    fallback_after: float = 180.0
    """Without a complete sample for this long, `fallback_replicas` hold."""
    fallback_replicas: int | None = None
    """At least this many then; None: as many as there are. Never fewer than there are."""
    offset_reset: OffsetReset = "earliest"
    read_committed: bool = True
    """Whether records are seen together with the markers of their transactions, which is not before those end."""


class Reason(StrEnum):
    """Why a decision is what it is, in one word; it stands in status, events and metrics."""

    STEADY = "Steady"
    """The objective is met and fewer replicas would not do."""
    LEARNING = "Learning"
    """Too little has been seen to judge."""
    BEHIND = "Behind"
    """More replicas: the predicted wait is over the objective's share."""
    CATCHING_UP = "CatchingUp"
    """Behind, and the replicas that are there or starting will do."""
    SURPLUS = "Surplus"
    """Fewer replicas would do."""
    COOLING_DOWN = "CoolingDown"
    """Fewer would do, and it is too early to take one away."""
    BUDGET = "RebalanceBudget"
    """A change would be due, and the hour's rebalances are used up."""
    LIMITED = "Limited"
    """More would be needed than `maxReplicas` or the partitions allow."""
    INEFFECTIVE = "Ineffective"
    """More replicas brought nothing twice, so none are added."""
    STALLED = "Stalled"
    """Lag that more replicas cannot shorten: the owners of those partitions make no progress."""
    HOT = "HotPartition"
    """Lag of single partitions that fill a replica each: more replicas cannot share them."""
    IDLE = "Idle"
    """Nothing to do: to zero, or at zero."""
    ACTIVATED = "Activated"
    """Back from zero."""
    INCOMPLETE = "Incomplete"
    """The sample is incomplete: nothing is taken away."""
    FALLBACK = "Fallback"
    """No complete sample for too long: the fallback holds."""
    BOUNDS = "Bounds"
    """Outside `minReplicas` to `maxReplicas`, or more than there are partitions."""


class PartitionState(StrEnum):
    """How the consumption of one partition stands, after Burrow's rules."""

    OK = "OK"
    LAGGING = "Lagging"
    STALLED = "Stalled"
    """Lag, an owner, and no progress."""
    STOPPED = "Stopped"
    """Lag, and nobody who owns the partition."""
    REWOUND = "Rewound"
    """The committed offset went back."""
    HOT = "Hot"
    """More comes in than one replica can do."""
    PHANTOM = "Phantom"
    """Offsets that hold no record for a consumer, such as a transaction's marker at the end of the log."""


@dataclass(frozen=True, slots=True)
class State:
    """What the policy remembers from decision to decision; it survives a restart as part of the status."""

    capacity: float | None = None
    """Learned records a second of one replica."""
    start_delay: float | None = None
    """Learned seconds from asking for a replica to its owning partitions."""
    last_up: float | None = None
    last_down: float | None = None
    changes: tuple[float, ...] = ()
    """When replicas were changed during the last hour: the rebalances that count against the budget."""
    breaches: int = 0
    """Decisions in a row that found the predicted wait too long."""
    ineffective: int = 0
    """Times in a row that added replicas brought too little."""
    rate_before: float | None = None
    """Records a second that the group did before the last addition; None once it was judged."""
    last_complete: float | None = None
    idle_since: float | None = None
    baselines: Mapping[TopicPartition, float] = field(default_factory=dict)
    """With `offset_reset: latest`: where partitions without a commit ended when they were first seen."""
    phantoms: Mapping[TopicPartition, float] = field(default_factory=dict)
    """Where partitions ended whose last offsets were found to hold no record; kept until a commit is past it."""
    replicas: int | None = None
    """Replicas that the last sample showed: a change of them is noticed by it, whoever made it."""
    asked_at: float | None = None
    """When more replicas were first asked for; None once they own partitions."""
    asked_for: int | None = None
    quiet_since: float | None = None
    """Since when waits have been short, with all replicas there that were asked for; None when they are not."""
    reduced_at: float | None = None
    """When replicas were first taken away, as long as it may turn out to have been too early."""
    reduced_rate: float | None = None
    """Records a second that arrived when some were last taken away then."""
    memory: float | None = None
    """Seconds back that fewer replicas must have sufficed, when experience asks for more than the usual."""
    strained: float | None = None
    """Records a second of one replica, on average over all, that proved too much after a reduction."""
    learned_at: float | None = None
    """When the last two were learned."""
    replicas_before: int | None = None
    """Replicas before the last addition, with `rate_before`."""
    arrival_before: float | None = None
    """Records a second that arrived then."""
    rate_judged: float | None = None
    """Records a second when an addition was last found to bring too little."""
    lost_commits: Mapping[TopicPartition, float] = field(default_factory=dict)
    """When partitions without a commit were last seen with one. Nothing is decided by it."""
    awaited: Mapping[TopicPartition, float] = field(default_factory=dict)
    """Commits, not far from their partition's end, behind which there surely is a record, though nobody says so."""
    markers: Mapping[TopicPartition, float] = field(default_factory=dict)
    """Where partitions end whose last offsets surely hold no record, though nobody says that he is idle."""


@dataclass(frozen=True, slots=True)
class Decision:
    """How many replicas there should be, why, and what was seen."""

    replicas: int
    reason: Reason
    sentence: str
    """The reason in words, with its numbers, as people read it in events and `kubectl describe`."""
    state: State
    """To be handed to the next decision."""
    lag: float = 0
    """Records not finished, over all partitions."""
    behind: float = 0.0
    """Seconds since the oldest unfinished record was written; 0 when there is none."""
    wait: float | None = None
    """Predicted seconds that the worst replica needs for what is there when new replicas could help; None: unknown."""
    arrival_rate: float | None = None
    """Records a second."""
    capacity: float | None = None
    """Records a second of one replica, as assumed."""
    needed: int | None = None
    """Replicas that would do, before bounds, budget and waiting times; None: unknown."""
    partitions: Mapping[TopicPartition, PartitionState] = field(default_factory=dict)
    """Those that are not OK."""
