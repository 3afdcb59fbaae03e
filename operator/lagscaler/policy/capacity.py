"""
How many records a second one replica can do.

A worker of the bridge says in its commits how busy it is; its rate divided by that is what it could do. Of any other
consumer it can only be seen while it never runs dry. Both are looked at only where nothing was reassigned meanwhile,
because a rebalance stops consumption for some seconds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from statistics import median

from lagscaler.policy.assignment import Groups
from lagscaler.policy.model import Sample, TopicPartition
from lagscaler.policy.rates import finished

SPAN = 25.0
"""Seconds that a measurement should span: a few commits and polls."""
SETTLE = 60.0
"""Seconds by which what was learned before counts for a third still."""
BUSY_LEAST = 0.15
"""Below this share of time, a rate divided by it is mostly noise."""
RARE = 180.0
"""Seconds that are looked at of a consumer that commits more rarely than it is polled."""
COMMITS = 3
"""Commits that must have been seen in that time."""
HOLE = 2.5
"""Poll periods between two samples above which something is missing in between."""
DRY_SECONDS = 5.0
"""A consumer with less backlog than it does in this time may have run dry between two samples."""


def undisturbed(samples: Sequence[Sample], poll: float, span: float = SPAN) -> Sequence[Sample]:
    """
    Return the last samples, at most about `span` seconds of them, during which the group's members stayed as they are.

    The first one after a rebalance is left out, as part of what it shows happened before; so is what lies before a
    hole, while nobody answered: how busy members were in it is not known.
    """
    hole = max(span, HOLE * poll)
    now = samples[-1]
    if now.rebalancing:
        return samples[-1:]
    owners = {key: partition.member for key, partition in now.partitions.items()}
    begin = len(samples) - 1
    while begin > 0 and now.at - samples[begin].at < span:
        sample = samples[begin - 1]
        if samples[begin].at - sample.at > hole:
            break
        same = (
            not sample.rebalancing
            and sample.members == now.members
            and sample.ready == now.ready
            and len(sample.partitions) == len(owners)
            and all(
                (partition := sample.partitions.get(key)) is not None and partition.member == member
                for key, member in owners.items()
            )
        )
        if not same:
            begin = min(len(samples) - 1, begin + 1)
            break
        begin -= 1
    return samples[begin:]


def measured(
    samples: Sequence[Sample],
    keys: Sequence[TopicPartition],
    groups: Groups,
    known: float | None,
    poll: float,
) -> float | None:
    """
    Return the capacity that the last samples show; None when they show nothing.

    Of consumers that were not at work all the time and do not say how busy they were, only the rate is known, which the
    capacity exceeds: it counts when it is above what is `known`.
    """
    recent = undisturbed(samples, poll)
    if len(recent) < 2:
        return None
    rates = finished(samples[-1], recent[0], keys)
    shown: list[float] = []
    least: list[float] = []
    for group in groups:
        rate = sum(rates[index] for index in group)
        if rate <= 0:
            continue
        mine = [keys[index] for index in group]
        busy = _busy(recent, mine)
        if busy is not None:
            if busy >= BUSY_LEAST:
                shown.append(rate / min(1.0, busy))
            continue
        seen = recent
        if not _commits_often(recent, mine):
            seen = undisturbed(samples, poll, RARE)
            rate = sum(_between_commits(seen, key) for key in mine)
        if rate > 0:
            (shown if _never_dry(seen, mine, rate) else least).append(rate)
    if shown:
        return median(shown)
    if known is not None and least and median(least) > known:
        return median(least)
    return None


def learn(known: float | None, shown: float | None, seconds: float) -> float | None:
    """Return what is known after `shown` was seen for `seconds`: new measurements replace old ones within minutes."""
    if shown is None or not math.isfinite(shown) or shown <= 0:
        return known
    if known is None:
        return shown
    weight = 1 - math.exp(-max(0.0, seconds) / SETTLE)
    return known + weight * (shown - known)


def _busy(samples: Sequence[Sample], keys: Sequence[TopicPartition]) -> float | None:
    """Return the mean of what a member said of itself; None when it said nothing."""
    values = [
        partition.busy
        for sample in samples[1:]
        for key in keys
        if (partition := sample.partitions.get(key)) is not None and partition.busy is not None
    ]
    return sum(values) / len(values) if values else None


def _commits_often(samples: Sequence[Sample], keys: Sequence[TopicPartition]) -> bool:
    """Return whether every partition that moved did so from each sample to the next."""
    for key in keys:
        offsets = [sample.partitions[key].committed for sample in samples]
        if offsets[0] != offsets[-1] and any(old == new for old, new in pairwise(offsets)):
            return False
    return True


def _between_commits(samples: Sequence[Sample], key: TopicPartition) -> float:
    """
    Return the records a second that were finished between the first and the last commit seen; 0 for too few of them.

    Half a minute's work that is committed between two samples would else look as if it was done in seconds.
    """
    seen = [
        (new.at, committed)
        for old, new in pairwise(samples)
        if (committed := new.partitions[key].committed) is not None and committed != old.partitions[key].committed
    ]
    if len(seen) < COMMITS:
        return 0.0
    (begin, first), (end, last) = seen[0], seen[-1]
    return max(0.0, last - first) / (end - begin)


def _never_dry(samples: Sequence[Sample], keys: Sequence[TopicPartition], rate: float) -> bool:
    """
    Return whether a member had more to do at each sample than may be done and not committed yet.

    That is what it does from one of its commits to the next, of which no more is known than the samples that show one.
    What it makes no progress with does not count: that may wait for something else.
    """
    first, last = samples[0], samples[-1]
    moving = [key for key in keys if first.partitions[key].committed != last.partitions[key].committed]
    uncommitted = rate * max(DRY_SECONDS, *(_longest_rest(samples, key) for key in moving), 0.0)
    for sample in samples:
        left = 0.0
        for key in moving:
            partition = sample.partitions[key]
            if partition.committed is not None:
                left += max(0.0, partition.end - max(partition.committed, partition.start) - partition.beyond)
        if left <= uncommitted:
            return False
    return True


def _longest_rest(samples: Sequence[Sample], key: TopicPartition) -> float:
    """Return the longest time between two samples that show another commit each, the first and the last counted in."""
    longest, since = 0.0, samples[0].at
    for old, new in pairwise(samples):
        longest = max(longest, new.at - since)
        if new.partitions[key].committed != old.partitions[key].committed:
            since = new.at
    return longest
