"""
How the consumption of one partition stands, judged by a window of samples.

The rules are those of LinkedIn's Burrow (https://github.com/linkedin/Burrow/wiki/Consumer-Lag-Evaluation-Rules), in
its order: no lag now, or none at some time in the window, is fine; an offset that went back; offsets that stopped;
offsets that stand still; lag that never shrinks. Burrow sees every commit, we see offsets at each poll: *stopped* is
told from *stalled* by whether anybody owns the partition. Added to it: a running task (a busy owner, or finished
records beyond an offset that stands still) is no stall, nor is waiting for an owner that works off one partition after
the other; and the last offsets of a log may hold no record at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from lagscaler.policy.lag import records_behind, resumes_at
from lagscaler.policy.model import PartitionSample, PartitionState, Sample, Spec, TopicPartition
from lagscaler.policy.rates import ago

PHANTOM_MOST = 2
"""Offsets at the end of a log that are taken for transaction markers, at most."""
FOREIGN_PATIENCE = 3
"""How many times longer a consumer that does not say how busy it is must stand still to be taken for done."""


def judge(
    samples: Sequence[Sample],
    key: TopicPartition,
    spec: Spec,
    baseline: float | None = None,
    phantom: float | None = None,
    awaited: float | None = None,
) -> PartitionState:
    """
    Return the state of the partition at the last sample, which has it; HOT is not among them.

    `phantom` is where the partition ended when its last offsets were found to hold no record, if they were, `awaited`
    the commit behind which there surely is one, if its owner did not say how busy it was.
    """
    now = samples[-1].partitions[key]
    lag = left(now, spec, baseline)
    if lag <= 0:
        return PartitionState.OK
    is_work = now.busy is None and awaited is not None and awaited == now.committed
    if phantom == now.end and is_little(now, lag) and not is_work:
        return PartitionState.PHANTOM
    window = _window(samples, key, spec.stall_after)
    lags = [left(partition, spec, baseline) for partition in window]
    if min(lags) <= 0:
        return PartitionState.OK
    if any(_went_back(new, old) for old, new in pairwise(window)):
        return PartitionState.REWOUND
    if _served(samples, key, spec.stall_after) and _stands_still(window):
        if not _is_owned(samples[-1], now):
            return PartitionState.STOPPED
        if not now.busy and not _waits_its_turn(samples, key, spec):
            nothing = not is_work and _holds_nothing(samples, key, spec, lag)
            return PartitionState.PHANTOM if nothing else PartitionState.STALLED
    if len(lags) > 2 and lags[-1] > lags[0] and all(new >= old for old, new in pairwise(lags)):
        return PartitionState.LAGGING
    return PartitionState.OK


def left(partition: PartitionSample, spec: Spec, baseline: float | None) -> float:
    """Return how many offsets are not finished, markers counted in."""
    return records_behind(partition, resumes_at(partition, spec.offset_reset, baseline))


def _window(samples: Sequence[Sample], key: TopicPartition, seconds: float) -> list[PartitionSample]:
    """Return what the samples of the last `seconds`, and the one before, say of the partition, oldest first."""
    window = []
    for sample in reversed(samples):
        partition = sample.partitions.get(key)
        if partition is not None:
            window.append(partition)
        if sample.at <= samples[-1].at - seconds:
            break
    window.reverse()
    return window


def _served(samples: Sequence[Sample], key: TopicPartition, seconds: float) -> bool:
    """Return whether the partition has been seen for that long, and somebody could have been at work on it."""
    for sample in reversed(samples):
        if sample.rebalancing or sample.replicas <= 0:
            return False
        if sample.at <= samples[-1].at - seconds:
            return key in sample.partitions
    return False


def _went_back(new: PartitionSample, old: PartitionSample) -> bool:
    return new.committed is not None and old.committed is not None and new.committed < old.committed


def _stands_still(window: Sequence[PartitionSample]) -> bool:
    first = window[0]
    return all(partition.committed == first.committed and partition.beyond == first.beyond for partition in window)


def _waits_its_turn(samples: Sequence[Sample], key: TopicPartition, spec: Spec) -> bool:
    """
    Return whether its owner, which does not say how busy it is, works off another partition's backlog first.

    That it gets on there is not enough: an owner that is stuck here may keep up everywhere else. So half of
    `stall_after` ago it must not have been through what was waiting there at its beginning.
    """
    now = samples[-1].partitions[key]
    if now.member is None or now.busy is not None:
        return False
    begin, middle = ago(samples, spec.stall_after), ago(samples, spec.stall_after / 2)
    for other, new in samples[-1].partitions.items():
        old, half = begin.partitions.get(other), middle.partitions.get(other)
        if other == key or new.member != now.member or old is None or half is None:
            continue
        if new.committed == old.committed:  # what retention deletes moves its beginning too
            continue
        was, between, reached = (resumes_at(one, spec.offset_reset, None) for one in (old, half, new))
        if was < reached and between < old.end:
            return True
    return False


def _is_owned(sample: Sample, partition: PartitionSample) -> bool:
    """Return whether a member owns the partition, as far as that is known: nobody does where others are owned."""
    if partition.member is not None:
        return True
    if sample.members is None:
        return True
    return sample.members > 0 and all(other.member is None for other in sample.partitions.values())


def is_little(now: PartitionSample, lag: float) -> bool:
    """Return whether something is left behind a commit that may be markers, by its number."""
    return now.committed is not None and 0 < lag <= PHANTOM_MOST


def _holds_nothing(samples: Sequence[Sample], key: TopicPartition, spec: Spec, lag: float) -> bool:
    """
    Return whether what is left is taken for markers: very little, behind an idle owner, and nothing has come since.

    An owner that says it is idle would have taken a record within the window. One that says nothing may be at work on
    it, so it gets several times as long, but no longer than samples are kept.
    """
    now = samples[-1].partitions[key]
    if not is_little(now, lag):
        return False
    patience = min(spec.window, spec.stall_after * (1 if now.busy is not None else FOREIGN_PATIENCE))
    window = _window(samples, key, patience)
    return _served(samples, key, patience) and _stands_still(window) and all(old.end == now.end for old in window)
