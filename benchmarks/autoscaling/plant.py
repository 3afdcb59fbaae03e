"""
The plant: pods of one consumer group that work off a load, second by second, as a fluid.

Policies act on it through `scale` and see of it what Kafka and Kubernetes would show: end offsets, committed offsets,
members and pods. What it scores, the age of records that are really not consumed, no policy sees.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from random import Random

from benchmarks.autoscaling.group import Owners, reassign, share
from benchmarks.autoscaling.load import Load

EPSILON = 1e-6
"""Records below which a backlog is none: sums of fractions leave such rests."""

MEAN = 5
"""Seconds over which a pod says how busy it is."""

BUSY_STEPS = 20
"""In how many steps, from 0 to 1, it says so."""


@dataclass(frozen=True, slots=True)
class Consumers:
    """What kind of consumers the pods are."""

    name: str
    eager: bool
    """Whether a rebalance stops everybody, or only who gives or takes a partition."""
    commit: int
    """Seconds between two commits of a partition."""
    busy: bool
    """Whether commits say how busy the pod is."""
    transit: float = 0.2
    """Seconds that a record is on its way to being committed, though nothing waits: fetched, run, noted."""


@dataclass(frozen=True, slots=True)
class Site:
    """Where a load is worked off: the same for all traces of a set, but for what a trace is about."""

    partitions: int
    capacity: float
    """Records a second of a pod, on average."""
    latency: float
    """The objective, in seconds."""
    start: float
    """Seconds from asking for a pod to its joining the group."""
    pause: int
    """Seconds that a rebalance takes."""
    spread: float = 0.05
    """Standard deviation of the pods' capacities, as a share of it: nodes differ."""
    noise: float = 0.04
    """Standard deviation of one pod's capacity from time to time: neighbours, collections, slow calls."""


@dataclass(slots=True)
class Pod:
    """One replica."""

    number: int
    capacity: float
    """Records a second, on average."""
    joins: int
    """The second in which it joins the group."""
    active: list[int] = field(default_factory=list)
    """The partitions that it consumes now."""
    weight: float = 0.0
    """Their share of the load."""
    clear: bool = False
    """Whether nothing is left in any of them; `Plant` does not keep their positions then."""
    used: deque[float] = field(default_factory=lambda: deque([0.0] * MEAN, MEAN))
    """Share of its capacity that it used, for each of the last seconds."""


@dataclass(slots=True)
class Score:
    """What came of a run."""

    violated: int = 0
    """Seconds in which some record was older than the objective and not consumed."""
    replica_seconds: int = 0
    """Replicas that were asked for, summed over the seconds."""
    rebalances: int = 0


class Plant:
    """One run. The same seed gives the same pods and the same noise, whatever a policy does."""

    def __init__(self, site: Site, consumers: Consumers, load: Load, seed: str, replicas: int, looks: int) -> None:
        """
        Begin at second 0 with `replicas` pods that share the partitions.

        `committed` and `busy` are right every `looks` seconds: to keep them at all times would take most of a run.
        """
        self._looks = looks
        self.site = site
        self.consumers = consumers
        self.load = load
        self.score = Score()
        self.now = 0
        """Seconds that have passed."""
        chance = Random(seed)
        self._factors = [max(0.5, chance.gauss(1, site.spread)) for _ in range(251)]
        self._noise = [max(0.2, chance.gauss(1, site.noise)) for _ in range(1009)]
        self._delays = [site.start * chance.uniform(0.85, 1.3) for _ in range(241)]
        self._phases: list[list[int]] = [[] for _ in range(consumers.commit)]
        for partition in range(site.partitions):
            self._phases[chance.randrange(consumers.commit)].append(partition)
        self._chance = chance
        self._pods: list[Pod] = []
        self._serial = 0
        self._consumed = [0.0] * site.partitions
        self.committed = [0.0] * site.partitions
        """What a client of Kafka sees of it."""
        self.busy: list[float | None] = [None] * site.partitions
        self._epoch = 0
        self._resumes: int | None = None
        self._next: Owners = []
        self._waiting: list[int] = []
        for _ in range(replicas):
            self._add(0)
        self._members = [pod.number for pod in self._pods]
        self.owners: Owners = reassign([None] * site.partitions, self._members, chance)
        self._activate()

    @property
    def replicas(self) -> int:
        """Replicas that are asked for."""
        return len(self._pods)

    @property
    def ready(self) -> int:
        """Pods that run."""
        return sum(pod.joins <= self.now for pod in self._pods)

    @property
    def members(self) -> int:
        """Pods in the group."""
        return self.ready

    @property
    def rebalancing(self) -> bool:
        """Whether the group is between two assignments."""
        return self._resumes is not None

    def ends(self) -> list[int]:
        """Return the end offset of each partition."""
        bases, weights, x = self.load.line(self.now)
        return [int(base + weight * x) for base, weight in zip(bases, weights, strict=True)]

    def unconsumed(self) -> float:
        """Return the records that are really not consumed."""
        self._settle()
        return self.load.total[self.now] - sum(self._consumed)

    def scale(self, replicas: int) -> None:
        """Ask for that many replicas; the youngest go first, as a ReplicaSet takes them."""
        for _ in range(replicas - len(self._pods)):
            self._add(self.now + max(1, round(self._delays[self._serial % len(self._delays)])))
        if gone := self._pods[replicas:]:
            # SIGTERM: what a pod is at is finished and committed before it leaves.
            self._stop([one for pod in gone for one in pod.active])
            del self._pods[replicas:]

    def tick(self) -> None:
        """Let one second pass."""
        second = self.now
        self._rebalance()
        epoch = self.load.epoch_at(second + 1)
        if epoch != self._epoch:
            self._settle()
            self._epoch = epoch
            self._activate()
        self._consume(second)
        self.now = second + 1
        if -self.now % self._looks < self.consumers.commit:
            for partition in self._phases[self.now % self.consumers.commit]:
                self._commit(partition)
        self._judge()

    def _add(self, joins: int) -> None:
        factor = self._factors[self._serial % len(self._factors)]
        self._pods.append(Pod(self._serial, self.site.capacity * factor, joins))
        self._serial += 1

    def _rebalance(self) -> None:
        if self._resumes is not None:
            if self.now < self._resumes:
                return
            self._resumes = None
            self.owners = self._next
            self._activate()
        members = [pod.number for pod in self._pods if pod.joins <= self.now]
        if members == self._members:
            return
        self._members = members
        self.score.rebalances += 1
        self._next = reassign(self.owners, members, self._chance)
        self._resumes = self.now + self.site.pause
        if self.consumers.eager:
            self._stop(range(self.site.partitions))
        else:
            self._stop([one for one, owner in enumerate(self.owners) if owner != self._next[one]])

    def _stop(self, partitions: Iterable[int]) -> None:
        """Let nobody consume them; a consumer commits what it gives up."""
        self._settle()
        for partition in partitions:
            self._commit(partition, all_of_it=True)
            self.owners[partition] = None
        self._activate()

    def _activate(self) -> None:
        """Give each pod the partitions that it owns."""
        self._settle()
        weights = self.load.epochs[self._epoch].weights
        for pod in self._pods:
            pod.active = [one for one, owner in enumerate(self.owners) if owner == pod.number]
            pod.weight = sum(weights[one] for one in pod.active)
            pod.clear = False
        self._holders: list[Pod | None] = [None] * self.site.partitions
        for pod in self._pods:
            for one in pod.active:
                self._holders[one] = pod
        self._waiting = [one for one, pod in enumerate(self._holders) if pod is None]

    def _settle(self) -> None:
        """Write down the positions in partitions of pods that are clear."""
        bases, weights, x = self.load.line(self.now)
        for pod in self._pods:
            if pod.clear:
                for one in pod.active:
                    self._consumed[one] = bases[one] + weights[one] * x
                pod.clear = False

    def _consume(self, second: int) -> None:
        bases, weights, x = self.load.line(second + 1)
        rate = self.load.rates[second]
        consumed, noise, length = self._consumed, self._noise, len(self._noise)
        slot = second // 10
        for pod in self._pods:
            if not pod.active:
                pod.used.append(0.0)
                continue
            capacity = pod.capacity * noise[(slot + 37 * pod.number) % length]
            if pod.clear:
                come = rate * pod.weight
                if come <= capacity:
                    pod.used.append(come / capacity)
                    continue
                for one in pod.active:
                    consumed[one] = bases[one] + weights[one] * (x - rate)
                pod.clear = False
            backlogs = [bases[one] + weights[one] * x - consumed[one] for one in pod.active]
            if (total := sum(backlogs)) <= capacity:
                pod.clear = True
                pod.used.append(total / capacity)
                continue
            pod.used.append(1.0)
            even = capacity / len(backlogs)
            if min(backlogs) >= even:
                for one in pod.active:
                    consumed[one] += even
            else:
                for one, done in zip(pod.active, share(backlogs, capacity), strict=True):
                    consumed[one] += done

    def _commit(self, partition: int, *, all_of_it: bool = False) -> None:
        pod = self._holders[partition]
        if pod is None:
            return
        position = self._position(pod, partition)
        if not all_of_it:
            come = self.load.rates[self.now - 1] * self.load.epochs[self._epoch].weights[partition]
            position = max(self.committed[partition], position - self.consumers.transit * come)
        self.committed[partition] = position
        if self.consumers.busy:
            self.busy[partition] = round(sum(pod.used) / MEAN * BUSY_STEPS) / BUSY_STEPS

    def _position(self, pod: Pod, partition: int) -> float:
        if not pod.clear:
            return self._consumed[partition]
        bases, weights, x = self.load.line(self.now)
        return bases[partition] + weights[partition] * x

    def _judge(self) -> None:
        self.score.replica_seconds += len(self._pods)
        due = self.now - int(self.site.latency)
        if due <= 0:
            return
        bases, weights, x = self.load.line(due)
        consumed = self._consumed
        for pod in self._pods:
            if pod.clear:
                continue
            for one in pod.active:
                if consumed[one] + EPSILON < bases[one] + weights[one] * x:
                    self.score.violated += 1
                    return
        for one in self._waiting:
            if consumed[one] + EPSILON < bases[one] + weights[one] * x:
                self.score.violated += 1
                return
