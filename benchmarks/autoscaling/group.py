"""Who owns which partition: the sticky assignment, balanced by number, as Kafka's own assignors make it."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

Owners = list[int | None]
"""For each partition its member; None: nobody's."""


def reassign(owners: Sequence[int | None], members: Sequence[int], chance: Random) -> Owners:
    """
    Return who owns each partition when `members` are in the group: none has two more than another, few move.

    Which partition a member gives up is left to chance, for a group knows nothing of their loads.
    """
    if not members:
        return [None] * len(owners)
    held: dict[int | None, list[int]] = {member: [] for member in members}
    free: list[int] = []
    for partition, owner in enumerate(owners):
        held.get(owner, free).append(partition)
    least, more = divmod(len(owners), len(members))
    # Those who hold most keep one more than the others: so nothing moves that need not.
    quotas = {
        member: least + (rank < more)
        for rank, member in enumerate(sorted(members, key=lambda member: -len(held[member])))
    }
    for member, partitions in held.items():
        chance.shuffle(partitions)
        free.extend(partitions[quotas[member] :])
        del partitions[quotas[member] :]
    free.sort()
    for member, partitions in held.items():
        missing = quotas[member] - len(partitions)
        partitions.extend(free[:missing])
        del free[:missing]
    result: Owners = [None] * len(owners)
    for member, partitions in held.items():
        for partition in partitions:
            result[partition] = member
    return result


def share(backlogs: Sequence[float], capacity: float) -> list[float]:
    """
    Return how much of each backlog a member does that gives each the same time, and what one leaves to the others.

    The sum is `capacity`, or all that there is where that is less.
    """
    done = [0.0] * len(backlogs)
    left = capacity
    order = sorted(range(len(backlogs)), key=backlogs.__getitem__)
    for rank, index in enumerate(order):
        done[index] = min(backlogs[index], left / (len(order) - rank))
        left -= done[index]
    return done
