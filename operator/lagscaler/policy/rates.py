"""Records a second: what arrives and what is finished, partition by partition."""

from __future__ import annotations

from collections.abc import Sequence

from lagscaler.policy.model import Sample, TopicPartition

SHORT = 20.0
"""Seconds over which a rise of the arrival rate is measured."""
LONG = 60.0
"""Seconds over which it must have fallen before it counts as fallen."""


def ago(samples: Sequence[Sample], seconds: float) -> Sample:
    """Return the latest sample that is at least `seconds` older than the last one, or else the oldest."""
    before = samples[-1].at - seconds
    for sample in reversed(samples):
        if sample.at <= before:
            return sample
    return samples[0]


def arrived(now: Sample, then: Sample, keys: Sequence[TopicPartition]) -> list[float]:
    """Return the records a second that were written to each partition between two samples; 0 where one lacks it."""
    span = now.at - then.at
    if span <= 0:
        return [0.0] * len(keys)
    rates = []
    for key in keys:
        new, old = now.partitions.get(key), then.partitions.get(key)
        rates.append(max(0.0, new.end - old.end) / span if new is not None and old is not None else 0.0)
    return rates


def finished(now: Sample, then: Sample, keys: Sequence[TopicPartition]) -> list[float]:
    """Return the records a second that the group finished in each partition between two samples."""
    span = now.at - then.at
    if span <= 0:
        return [0.0] * len(keys)
    rates = []
    for key in keys:
        new, old = now.partitions.get(key), then.partitions.get(key)
        if new is None or old is None or old.committed is None or new.committed is None:
            rates.append(0.0)
        else:
            rates.append(max(0.0, new.committed + new.beyond - old.committed - old.beyond) / span)
    return rates


def arriving(samples: Sequence[Sample], keys: Sequence[TopicPartition], latency: float, poll: float) -> list[float]:
    """
    Return the arrival rate of each partition to be reckoned with: quick to rise, slow to fall.

    It is the higher one of a short and a long time, both shorter where the objective is short.
    """
    now = samples[-1]
    short = max(2 * poll, min(SHORT, latency / 3))
    recent = arrived(now, ago(samples, short), keys)
    longer = arrived(now, ago(samples, max(short, min(LONG, latency))), keys)
    return [max(pair) for pair in zip(recent, longer, strict=True)]


def increments(samples: Sequence[Sample], keys: Sequence[TopicPartition]) -> list[tuple[float, list[float]]]:
    """Return, from sample to sample, the seconds between them and the records written to each partition."""
    rows = []
    before = None
    for sample in samples:
        ends = [partition.end if (partition := sample.partitions.get(key)) is not None else None for key in keys]
        if before is not None:
            at, old = before
            gained = [
                new - end if new is not None and end is not None and new > end else 0.0
                for new, end in zip(ends, old, strict=True)
            ]
            rows.append((sample.at - at, gained))
        before = (sample.at, ends)
    return rows
