"""What one poll has learned of each consumer, put together."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field

from lagscaler.kafka.calls import LogOffset, Node
from lagscaler.kafka.groups import Commit, Commits, Membership
from lagscaler.kafka.logs import Logs
from lagscaler.kafka.metadata import read_note
from lagscaler.kafka.problems import Problem, of_topic
from lagscaler.policy.model import Gap, OffsetReset, PartitionSample, Sample, TopicPartition

NAMED = 8
"""Partitions that a sentence names."""

_UNTOLD = Problem(Gap.OTHER, "Kafka did not tell everything that it was asked")


@dataclass(frozen=True, slots=True)
class Request:
    """A consumer to be sampled."""

    key: Hashable
    """What the answer is found by."""
    group: str
    topics: tuple[str, ...]
    read_committed: bool = True
    """Whether the log ends, for this consumer, before the first record of an open transaction."""
    offset_reset: OffsetReset = "earliest"
    want_times: bool = False
    """Whether `first_unread_at` is asked for, which takes some questions more."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Kafka's half of a sample; the fields are those of `Sample`."""

    at: float
    partitions: Mapping[TopicPartition, PartitionSample] = field(default_factory=dict)
    members: int | None = None
    rebalancing: bool = False
    gaps: Mapping[Gap, str] = field(default_factory=dict)

    def sample(self, replicas: int, ready: int) -> Sample:
        """Return the whole sample, with what Kubernetes knows."""
        return Sample(self.at, self.partitions, replicas, ready, self.members, self.rebalancing, self.gaps)


@dataclass(slots=True)
class Poll:
    """What one poll has learned so far."""

    at: float
    trouble: Problem | None = None
    """Why it ended early."""
    logs: Logs | None = None
    silent: dict[Node, str] = field(default_factory=dict)
    """Brokers that did not answer, with what happened."""
    commits: dict[str, Commits | Problem] = field(default_factory=dict)
    members: dict[str, Membership | Problem] = field(default_factory=dict)
    starts: dict[TopicPartition, LogOffset | Problem] = field(default_factory=dict)
    ends: dict[bool, dict[TopicPartition, LogOffset | Problem]] = field(default_factory=dict)
    """By whether the log ends before open transactions."""
    times: dict[Hashable, Mapping[TopicPartition, float]] = field(default_factory=dict)


def reading(request: Request, poll: Poll, user: str) -> Reading:
    """Return what a poll has learned of one consumer; `user` is whom sentences name."""
    late = poll.trouble or _UNTOLD
    if poll.logs is None:
        return Reading(poll.at, gaps={late.gap: late.sentence})
    problems: dict[Problem, list[TopicPartition]] = {}
    found: dict[TopicPartition, PartitionSample] = {}
    known = poll.members.get(request.group)
    membership = known if isinstance(known, Membership) else None
    times = poll.times.get(request.key, {})
    for topic in request.topics:
        numbers = poll.logs.partitions(topic)
        if isinstance(numbers, Problem):
            problems[numbers] = []
            continue
        for number in numbers:
            partition = topic, number
            commit = _commit(request.group, partition, poll, user)
            start, end = poll.starts.get(partition), poll.ends.get(request.read_committed, {}).get(partition)
            if isinstance(commit, Commit) and isinstance(start, LogOffset) and isinstance(end, LogOffset):
                owner = membership.owners.get(partition) if membership else None
                found[partition] = _sample(commit, start.offset, end.offset, owner, times.get(partition))
            else:
                problem = next((one for one in (commit, start, end) if isinstance(one, Problem)), late)
                problems.setdefault(problem, []).append(partition)
    return Reading(
        at=poll.at,
        partitions=found,
        members=membership.members if membership else None,
        rebalancing=membership is not None and membership.rebalancing,
        gaps=_gaps(problems),
    )


def _commit(group: str, partition: TopicPartition, poll: Poll, user: str) -> Commit | Problem | None:
    commits = poll.commits.get(group)
    if not isinstance(commits, Commits):
        return commits
    # Left out by servers that deny the topic instead of saying so.
    commit = commits.partitions.get(partition)
    return of_topic(commit.error, partition[0], user) if commit is not None and commit.error else commit


def _sample(commit: Commit, start: int, end: int, owner: str | None, first_unread_at: float | None) -> PartitionSample:
    end = max(start, end)
    if commit.offset < 0:
        return PartitionSample(start, end, None, member=owner, first_unread_at=first_unread_at)
    note = read_note(commit.metadata)
    # What was finished beyond an offset that the log has lost may be lost as well.
    beyond = min(note.beyond, max(0, end - commit.offset)) if commit.offset >= start else 0
    return PartitionSample(start, end, commit.offset, beyond, note.busy, owner, first_unread_at)


def _gaps(problems: Mapping[Problem, Sequence[TopicPartition]]) -> dict[Gap, str]:
    """Return a sentence for each kind of gap, with the partitions that it is about."""
    sentences: dict[Gap, list[str]] = {}
    for problem, partitions in problems.items():
        numbers = [str(number) for _, number in partitions]
        more = ", …" if len(numbers) > NAMED else ""
        where = f" (partitions {', '.join(numbers[:NAMED])}{more})" if problem.gap is Gap.NO_LEADER and numbers else ""
        sentences.setdefault(problem.gap, []).append(problem.sentence + where)
    return {gap: "; ".join(texts) for gap, texts in sentences.items()}
