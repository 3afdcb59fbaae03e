"""Lag of one partition, in records and in seconds: never negative, never unknown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lagscaler.policy.model import OffsetReset, PartitionSample, Sample, TopicPartition


def has_offset(sample: PartitionSample) -> bool:
    """Return whether the group has a committed offset that the log still has, or one behind its end."""
    return sample.committed is not None and sample.committed >= sample.start


def resumes_at(sample: PartitionSample, reset: OffsetReset, baseline: float | None) -> float:
    """
    Return the offset of the first record that the group has not read, between the log's first offset and its end.

    A group without a valid offset begins where its `auto.offset.reset` says. For `latest` that is `baseline`, the end
    when the partition was first seen: what came since is waiting, what was there before will never be read. For `none`
    the consumers refuse to begin, and all that the log has is waiting.
    """
    if sample.committed is not None and sample.committed >= sample.start:
        return min(sample.committed, sample.end)
    if reset == "latest":
        return min(sample.end, max(sample.start, sample.end if baseline is None else baseline))
    return min(sample.start, sample.end)


def records_behind(sample: PartitionSample, resume: float) -> float:
    """Return how many records from `resume` on are not finished; what finished beyond the committed offset is done."""
    beyond = sample.beyond if sample.beyond > 0 and has_offset(sample) else 0.0
    return max(0.0, sample.end - resume - beyond)


def baselines(
    sample: Sample, reset: OffsetReset, known: Mapping[TopicPartition, float]
) -> Mapping[TopicPartition, float]:
    """Return where partitions without a valid offset ended when they were first seen; empty unless `latest`."""
    if reset != "latest":
        return {}
    found = {
        key: min(partition.end, known.get(key, partition.end))
        for key, partition in sample.partitions.items()
        if not has_offset(partition)
    }
    if not sample.complete:
        found = {**{key: end for key, end in known.items() if key not in sample.partitions}, **found}
    return found


def lost_commits(history: Sequence[Sample], known: Mapping[TopicPartition, float]) -> Mapping[TopicPartition, float]:
    """
    Return when partitions that have no commit in the last sample were last seen with one, as far as they were.

    Kafka says the same of a group that was never there, one that was deleted, and offsets that have expired.
    """
    now = history[-1]
    found: dict[TopicPartition, float] = {}
    for key, partition in now.partitions.items():
        if partition.committed is None:
            before = next((sample for sample in reversed(history[:-1]) if key in sample.partitions), None)
            if before is not None and before.partitions[key].committed is not None:
                found[key] = before.at
            elif 0 <= known.get(key, -1) <= now.at:
                found[key] = known[key]
    if not now.complete:
        found = {**{key: at for key, at in known.items() if key not in now.partitions and 0 <= at <= now.at}, **found}
    return found


def seconds_behind(history: Sequence[Sample], key: TopicPartition, resume: float) -> float:
    """
    Return how long before the last sample the record at `resume` was written.

    The partition's end was seen at each sample, so the record was written between the last sample that ended at or
    before it and the next one; in between, arrivals are taken as even. Where no sample is old enough,
    `first_unread_at` tells; where nobody asked Kafka for that, the age of the oldest sample, which the record exceeds.
    """
    now = history[-1].at
    later_at, later_end = now, history[-1].partitions[key].end
    for sample in reversed(history[:-1]):
        partition = sample.partitions.get(key)
        if partition is None:
            continue
        if partition.end > later_end:  # the topic was made anew in between
            return max(0.0, now - sample.at)
        if partition.end <= resume:
            gained = later_end - partition.end
            share = (resume - partition.end) / gained if gained > 0 else 1.0
            return max(0.0, now - (sample.at + share * (later_at - sample.at)))
        later_at, later_end = sample.at, partition.end
    written = [
        partition.first_unread_at
        for sample in history
        if (partition := sample.partitions.get(key)) is not None and partition.first_unread_at is not None
    ]
    return max(0.0, now - (min(later_at, written[-1]) if written else later_at))
