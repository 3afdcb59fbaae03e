"""Samples as a table would write them, and a small consumer group that works off a load."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from lagscaler.policy.decide import decide
from lagscaler.policy.history import History
from lagscaler.policy.model import Decision, Gap, PartitionSample, Sample, Spec, State, TopicPartition

KEY: TopicPartition = ("orders", 0)
NOW = 1_000_000.0


def keys(count: int) -> list[TopicPartition]:
    """Return the partitions of one topic."""
    return [("orders", number) for number in range(count)]


def one(
    at: float,
    committed: float | None,
    end: float,
    *,
    start: float = 0,
    beyond: float = 0,
    busy: float | None = None,
    member: str | None = "a",
    first_unread_at: float | None = None,
    members: int | None = 1,
    replicas: int = 1,
    rebalancing: bool = False,
) -> Sample:
    """Return a sample of one partition, `at` seconds after NOW."""
    partition = PartitionSample(start, end, committed, beyond, busy, member, first_unread_at)
    return Sample(NOW + at, {KEY: partition}, replicas, replicas, members, rebalancing)


def gap(at: float, replicas: int, reason: Gap = Gap.UNREACHABLE) -> Sample:
    """Return a sample that Kafka did not answer for."""
    return Sample(NOW + at, {}, replicas, replicas, gaps={reason: "no broker answered within 10 s"})


@dataclass
class Group:
    """
    Consumers that share partitions evenly, and do `capacity` records a second each.

    A pod joins `start` seconds after it was asked for, and goes at once. Whenever members come or go, nobody does
    anything for `pause` seconds. Nothing in it is random. Partitions belong to members in turn.
    """

    replicas: int = 2
    partitions: int = 12
    capacity: float = 100.0
    busy: bool = True
    weights: Sequence[float] = ()
    poll: float = 10.0
    start: float = 0.0
    pause: float = 0.0
    at: float = NOW
    ends: list[float] = field(default_factory=list)
    done: list[float] = field(default_factory=list)
    used: dict[int, float] = field(default_factory=dict)
    joins: list[float] = field(default_factory=list)
    """When each pod joined, or will."""
    members: int = 0
    stopped: float = 0.0
    """Seconds for which nobody will do anything."""

    def __post_init__(self) -> None:
        self.joins = [self.at] * self.replicas
        self.members = self.replicas
        self.ends = [0.0] * self.partitions
        self.done = [0.0] * self.partitions
        self.weights = self.weights or [1.0] * self.partitions

    def owner(self, partition: int) -> int | None:
        """Return the number of the member that owns the partition."""
        return partition % min(self.members, self.partitions) if self.members else None

    def run(self, rate: float) -> None:
        """Let one poll period pass while `rate` records a second arrive."""
        self.settle()
        stopped = min(self.stopped, self.poll)
        self.stopped -= stopped
        total = sum(self.weights)
        for partition in range(self.partitions):
            self.ends[partition] += rate * self.weights[partition] / total * self.poll
        self.used = {}
        for member in range(min(self.members, self.partitions)):
            mine = [partition for partition in range(self.partitions) if self.owner(partition) == member]
            most = left = self.capacity * (self.poll - stopped)
            for place, partition in enumerate(sorted(mine, key=lambda one: self.ends[one] - self.done[one])):
                part = min(self.ends[partition] - self.done[partition], left / (len(mine) - place))
                self.done[partition] += part
                left -= part
            self.used[member] = (most - left) / (self.capacity * self.poll)
        self.at += self.poll

    def settle(self) -> None:
        """Let pods come and go."""
        self.joins = self.joins[: self.replicas]
        self.joins += [self.at + self.start] * (self.replicas - len(self.joins))
        members = sum(join <= self.at for join in self.joins)
        if members != self.members:
            self.members = members
            self.stopped = self.pause

    def sample(self) -> Sample:
        """Return what a sampler would find."""
        partitions = {}
        for partition, key in enumerate(keys(self.partitions)):
            owner = self.owner(partition)
            busy = None if owner is None or not self.busy else min(1.0, self.used.get(owner, 0.0))
            member = None if owner is None else f"pod-{owner:02}"
            partitions[key] = PartitionSample(0, self.ends[partition], self.done[partition], busy=busy, member=member)
        return Sample(self.at, partitions, self.replicas, self.members, min(self.members, self.partitions))


@dataclass
class Loop:
    """A group under the policy."""

    group: Group
    spec: Spec = field(default_factory=Spec)
    state: State = field(default_factory=State)
    acting: bool = True

    def __post_init__(self) -> None:
        self.history = History(self.spec.window)

    def step(self, rate: float) -> Decision:
        """Let one poll period pass, decide, and do it."""
        self.group.run(rate)
        return self.judge(self.group.sample())

    def judge(self, sample: Sample) -> Decision:
        """Decide on a sample, and do it."""
        self.history.add(sample)
        decision = decide(self.history, self.spec, self.state)
        self.state = decision.state
        if self.acting:
            self.group.replicas = decision.replicas
        return decision

    def run(self, rate: float, seconds: float) -> list[Decision]:
        """Let so many seconds pass under a constant load; return the decisions."""
        return list(self.steps(rate, seconds))

    def steps(self, rate: float, seconds: float) -> Iterator[Decision]:
        """Let so many seconds pass under a constant load, and give each decision."""
        for _ in range(round(seconds / self.group.poll)):
            yield self.step(rate)

    def restart(self) -> None:
        """Forget what a new process of the operator does not know: everything but the status."""
        self.history = History(self.spec.window)
