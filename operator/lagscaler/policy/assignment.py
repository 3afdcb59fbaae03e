"""
Which replica owns which partitions, now and after a change of their number.

Partitions are told by their place in a list of keys, replicas are groups of such places. The prediction follows
Kafka's assignors: the sticky ones (cooperative-sticky, and the brokers' own `uniform`) keep as much as a balanced
number of partitions allows, `range` hands out consecutive partitions topic by topic.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from lagscaler.policy.model import Sample, TopicPartition

DRAWS = 3
"""Assignments that are looked at where several are as likely."""

Groups = list[list[int]]
"""For each replica the partitions that it owns."""


def owned(sample: Sample, keys: Sequence[TopicPartition]) -> Groups:
    """
    Return what each member owns, in the order of the members' ids; partitions that nobody owns are in no group.

    Empty when it is not known who owns what.
    """
    members: dict[str, list[int]] = {}
    for index, key in enumerate(keys):
        member = sample.partitions[key].member
        if member is not None:
            members.setdefault(member, []).append(index)
    return [members[member] for member in sorted(members)]


def current(sample: Sample, keys: Sequence[TopicPartition]) -> Groups:
    """Return what each replica owns, or is about to own where nobody owns a partition; at least one group."""
    known = owned(sample, keys)
    count = len(known) or sample.members or sample.ready or sample.replicas
    count = max(1, min(count, len(keys)))
    if sum(map(len, known)) == len(keys) and known:
        return known
    return sticky(known, count, len(keys))


def sticky(groups: Groups, replicas: int, partitions: int) -> Groups:
    """Return the groups of `replicas` members that own all `partitions`, moving as few as a balanced number allows."""
    share, larger = divmod(partitions, replicas)
    kept = sorted(groups[:replicas], key=len, reverse=True)
    kept += [[] for _ in range(replicas - len(kept))]
    result = [group[: share + (index < larger)] for index, group in enumerate(kept)]
    placed = {index for group in result for index in group}
    given = [index for group in groups for index in group if index not in placed]
    placed.update(given)
    given += [index for index in range(partitions) if index not in placed]
    place = 0
    for index in given:
        while len(result[place]) >= share + (place < larger):
            place += 1
        result[place].append(index)
    return result


def consecutive(keys: Sequence[TopicPartition], replicas: int) -> Groups:
    """Return the groups that the `range` assignor makes: for each topic by itself, consecutive partitions."""
    topics: dict[str, list[int]] = {}
    for index, (topic, _) in enumerate(keys):
        topics.setdefault(topic, []).append(index)
    result: Groups = [[] for _ in range(replicas)]
    for indexes in topics.values():
        share, larger = divmod(len(indexes), replicas)
        begin = 0
        for member in range(replicas):
            size = share + (member < larger)
            result[member] += indexes[begin : begin + size]
            begin += size
    return result


def predictor(groups: Groups, keys: Sequence[TopicPartition]) -> Callable[[int], Sequence[Groups]]:
    """
    Return a function that gives the assignments that are likely for a number of replicas; the present one for theirs.

    What is owned now tells which assignor is at work: `range`, when it is just what `range` makes. A sticky assignor
    may take any of a member's partitions, and any member may be the one that goes: a few of these are drawn, always
    the same ones.
    """
    if len(groups) > 1 and sorted(map(sorted, groups)) == sorted(consecutive(keys, len(groups))):
        return lambda replicas: [consecutive(keys, replicas)]
    drawn: dict[int, Sequence[Groups]] = {len(groups): [groups]}

    def predict(replicas: int) -> Sequence[Groups]:
        if replicas not in drawn:
            drawn[replicas] = [sticky(_shuffled(groups, seed), replicas, len(keys)) for seed in range(DRAWS)]
        return drawn[replicas]

    return predict


def _shuffled(groups: Groups, seed: int) -> Groups:
    chance = Random(seed)  # noqa: S311 - not for secrets, and to be the same every time
    return [chance.sample(group, len(group)) for group in chance.sample(groups, len(groups))]
