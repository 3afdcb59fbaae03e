"""What the samples show, worked out once for a decision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

from lagscaler.policy import capacity, rates, windows
from lagscaler.policy.assignment import Groups, current, owned
from lagscaler.policy.lag import records_behind, resumes_at, seconds_behind
from lagscaler.policy.model import PartitionState, Sample, Spec, State, TopicPartition

HELPLESS = frozenset({PartitionState.STALLED, PartitionState.STOPPED, PartitionState.PHANTOM})
"""States in which more replicas shorten no lag."""


@dataclass(frozen=True, slots=True)
class Picture:
    """Lists have one entry for each of `keys`."""

    now: Sample
    samples: Sequence[Sample]
    """The complete samples up to now in strictly ascending order, and now itself even if it is incomplete."""
    keys: list[TopicPartition]
    states: Mapping[TopicPartition, PartitionState]
    """Those that are not OK."""
    lags: list[float]
    """Records not finished; none where the offsets that are left hold no record."""
    helped: list[float]
    """Of these, the ones that more replicas could shorten."""
    ages: list[float]
    """Seconds since the oldest of the latter was written, in each partition."""
    rates: list[float]
    """Records a second that arrive; none where more replicas could not help."""
    arrivals: list[float]
    """Records a second that arrive, whether more replicas could help or not."""
    done: float | None
    """Records a second that the group finished while nothing was reassigned; None when there is no such time."""
    steady_for: float
    """Seconds for which nothing was reassigned, as far as it matters."""
    behind: float
    """Seconds since the oldest unfinished record was written, whether more replicas could help or not."""
    groups: Groups
    owners: int
    """Replicas that own partitions; the number of pods that are ready where that is not known."""
    capacity: float | None
    """Records a second of one replica, as assumed; None when nothing is known."""
    learned: float | None
    """The same, as seen."""

    doubtful: list[TopicPartition]
    """Those whose last offsets are taken for markers, though they may be a record that is being worked on."""

    def named(self, *states: PartitionState) -> list[TopicPartition]:
        """Return the partitions in one of the states."""
        return [key for key in self.keys if self.states.get(key) in states]

    @property
    def arrival(self) -> float:
        """Records a second that arrive in all."""
        return sum(self.arrivals)

    def hot(self) -> Set[int]:
        """Return the places of the partitions in which more arrives than one replica can do."""
        return {index for index, key in enumerate(self.keys) if self.states.get(key) is PartitionState.HOT}


def draw(history: Sequence[Sample], spec: Spec, state: State) -> Picture:
    """Return the picture at the last sample."""
    now = history[-1]
    samples = _usable(history)
    keys = sorted(now.partitions)
    lags, helped, states = [], [], {}
    behind = 0.0
    ages, doubtful = [], []
    for key in keys:
        partition = now.partitions[key]
        baseline = state.baselines.get(key)
        resume = resumes_at(partition, spec.offset_reset, baseline)
        left = records_behind(partition, resume)
        verdict = PartitionState.OK
        if left > 0:
            verdict = windows.judge(samples, key, spec, baseline, state.phantoms.get(key), state.awaited.get(key))
        if verdict is not PartitionState.OK:
            states[key] = verdict
        if verdict is PartitionState.PHANTOM:
            left = 0.0
            if partition.busy is None and state.markers.get(key) != partition.end:
                doubtful.append(key)
        helpless = verdict in HELPLESS
        lags.append(left)
        helped.append(0.0 if helpless else left)
        age = seconds_behind(samples, key, resume) if left > 0 else 0.0
        behind = max(behind, age)
        ages.append(0.0 if helpless else age)
    arriving = rates.arriving(samples, keys, spec.latency, spec.poll)
    groups = current(now, keys) if keys else []
    known = len(owned(now, keys))
    steady = capacity.undisturbed(samples, spec.poll)
    done = sum(rates.finished(now, steady[0], keys)) if len(steady) > 1 else None
    learned = state.capacity
    if len(samples) > 1:
        shown = capacity.measured(samples, keys, groups, learned, spec.poll)
        learned = capacity.learn(learned, shown, now.at - samples[-2].at)
    assumed = spec.capacity if spec.capacity is not None else learned
    if assumed is not None and assumed > 0:
        for key, rate in zip(keys, arriving, strict=True):
            if rate > assumed and states.get(key) not in HELPLESS:
                states[key] = PartitionState.HOT
    return Picture(
        now=now,
        samples=samples,
        keys=keys,
        states=states,
        lags=lags,
        helped=helped,
        ages=ages,
        rates=[0.0 if states.get(key) in HELPLESS else rate for key, rate in zip(keys, arriving, strict=True)],
        arrivals=arriving,
        done=done,
        steady_for=now.at - steady[0].at,
        behind=behind,
        groups=groups,
        owners=known or now.members or now.ready,  # consumers that assign partitions to themselves are no members
        capacity=assumed if assumed is not None and assumed > 0 else None,
        learned=learned,
        doubtful=doubtful,
    )


def _usable(history: Sequence[Sample]) -> list[Sample]:
    """Return the complete samples and the last one, each later than the one before."""
    now = history[-1]
    usable: list[Sample] = []
    for sample in history:
        if sample is now:
            break
        if sample.gaps or sample.at >= now.at or (usable and sample.at <= usable[-1].at):
            continue
        usable.append(sample)
    usable.append(now)
    return usable
