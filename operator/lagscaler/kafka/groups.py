"""
Questions about consumer groups: who coordinates them, what they committed, who belongs to them.

Each comes for many groups at once where the broker has it so (Kafka 3.0, KIP-699 and KIP-709), and for one group
otherwise. Source: https://kafka.apache.org/protocol.html.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lagscaler.kafka.calls import Call, Node
from lagscaler.kafka.wire import MalformedError, Reader, Writer
from lagscaler.policy.model import TopicPartition

FIND_COORDINATOR = 10
FIND_MANY = 4
"""The version of FindCoordinator that takes many groups."""

OFFSET_FETCH = 9
FETCH_MANY = 8
"""The version of OffsetFetch that takes many groups."""

CONSUMER_GROUP_DESCRIBE = 69
"""The API that describes groups of KIP-848; the older one tells of them that they are dead."""

_INDEX = struct.Struct(">i")
_COMMIT = struct.Struct(">iq")
_COMMIT_WITH_EPOCH = struct.Struct(">iqi")

_MOVING = frozenset({"PreparingRebalance", "CompletingRebalance", "Assigning", "Reconciling"})
"""States of a group between two assignments, of both protocols."""


@dataclass(frozen=True, slots=True)
class Coordinator:
    """The broker that coordinates a group, or an error code."""

    error: int
    node: Node


@dataclass(frozen=True, slots=True)
class Commit:
    """What a group has stored for a partition: an offset, below 0 where nothing is, with metadata; or an error code."""

    error: int
    offset: int
    metadata: str


@dataclass(frozen=True, slots=True)
class Commits:
    """What a group has stored: an error code of the whole group, or each partition's."""

    error: int
    partitions: Mapping[TopicPartition, Commit] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Membership:
    """A group's members: an error code, or how many there are, who owns what, and whether that is about to change."""

    error: int
    members: int = 0
    owners: Mapping[TopicPartition, str] = field(default_factory=dict)
    rebalancing: bool = False


Wanted = tuple[str, Mapping[str, Sequence[int]]]
"""A group, and by topic the partitions that are asked for."""


def find_coordinators(groups: Sequence[str]) -> Call[dict[str, Coordinator]]:
    """Ask who coordinates each of many groups."""

    def one(reader: Reader) -> tuple[str, Coordinator]:
        group = reader.compact_string()
        node = Node(reader.int32(), reader.compact_string(), reader.int32())
        found = Coordinator(reader.int16(), node)
        reader.compact_string()
        reader.skip_tags()
        return group, found

    def read(reader: Reader) -> dict[str, Coordinator]:
        reader.int32()
        return dict(reader.compact_array(one))

    body = Writer().int8(0).compact_array(list(groups), Writer.compact_string).no_tags().done()
    return Call(FIND_COORDINATOR, FIND_MANY, body, read, flexible=True)


def find_coordinator(group: str) -> Call[dict[str, Coordinator]]:
    """Ask who coordinates one group."""

    def read(reader: Reader) -> dict[str, Coordinator]:
        reader.int32()
        error = reader.int16()
        reader.string()
        return {group: Coordinator(error, Node(reader.int32(), reader.string(), reader.int32()))}

    return Call(FIND_COORDINATOR, 1, Writer().string(group).int8(0).done(), read)


def fetch_commits(wanted: Sequence[Wanted]) -> Call[dict[str, Commits]]:
    """Ask what many groups have committed; all of them have the same coordinator."""

    def topic(writer: Writer, item: tuple[str, Sequence[int]]) -> None:
        name, partitions = item
        writer.compact_string(name).unsigned(len(partitions) + 1)
        writer.raw(struct.pack(f">{len(partitions)}i", *partitions)).no_tags()

    def group(writer: Writer, item: Wanted) -> None:
        name, topics = item
        writer.compact_string(name).compact_array(list(topics.items()), topic).no_tags()

    def answer(reader: Reader) -> tuple[str, Commits]:
        name = reader.compact_string()
        found: dict[TopicPartition, Commit] = {}
        for _ in range(reader.unsigned() - 1):
            title = reader.compact_string()
            for _ in range(reader.unsigned() - 1):
                partition, offset, _epoch = _COMMIT_WITH_EPOCH.unpack(reader.take(_COMMIT_WITH_EPOCH.size))
                metadata = reader.compact_string()
                found[title, partition] = Commit(reader.int16(), offset, metadata)
                reader.skip_tags()
            reader.skip_tags()
        error = reader.int16()
        reader.skip_tags()
        return name, Commits(error, found)

    def read(reader: Reader) -> dict[str, Commits]:
        reader.int32()
        return dict(reader.compact_array(answer))

    body = Writer().compact_array(list(wanted), group).int8(0).no_tags().done()
    return Call(OFFSET_FETCH, FETCH_MANY, body, read, flexible=True)


def fetch_commits_of_one(wanted: Wanted) -> Call[dict[str, Commits]]:
    """Ask what one group has committed."""
    group, topics = wanted

    def write(writer: Writer, item: tuple[str, Sequence[int]]) -> None:
        name, partitions = item
        writer.string(name).array(list(partitions), Writer.int32)

    def read(reader: Reader) -> dict[str, Commits]:
        reader.int32()
        found: dict[TopicPartition, Commit] = {}
        for _ in range(reader.count()):
            name = reader.string()
            for _ in range(reader.count()):
                partition, offset = _COMMIT.unpack(reader.take(_COMMIT.size))
                metadata = reader.string()
                found[name, partition] = Commit(reader.int16(), offset, metadata)
        return {group: Commits(reader.int16(), found)}

    return Call(OFFSET_FETCH, 3, Writer().string(group).array(list(topics.items()), write).done(), read)


def describe_consumer_groups(groups: Sequence[str]) -> Call[dict[str, Membership]]:
    """Ask who belongs to groups of KIP-848; of other groups the answer is GROUP_ID_NOT_FOUND."""

    def topic(reader: Reader) -> tuple[str, list[int]]:
        reader.take(16)
        name = reader.compact_string()
        partitions = [number for (number,) in _INDEX.iter_unpack(reader.take(max(0, reader.unsigned() - 1) * 4))]
        reader.skip_tags()
        return name, partitions

    def assignment(reader: Reader) -> list[tuple[str, list[int]]]:
        topics = reader.compact_array(topic)
        reader.skip_tags()
        return topics

    def member(reader: Reader) -> tuple[str, list[tuple[str, list[int]]]]:
        name = reader.compact_string()
        reader.compact_string()
        reader.compact_string()
        reader.int32()
        reader.compact_string()
        reader.compact_string()
        reader.compact_array(Reader.compact_string)
        reader.compact_string()
        owned, _target = assignment(reader), assignment(reader)
        reader.skip_tags()
        return name, owned

    def group(reader: Reader) -> tuple[str, Membership]:
        error = reader.int16()
        reader.compact_string()
        name, state = reader.compact_string(), reader.compact_string()
        reader.int32()
        reader.int32()
        reader.compact_string()
        members = reader.compact_array(member)
        reader.int32()
        reader.skip_tags()
        return name, _membership(error, state, members)

    def read(reader: Reader) -> dict[str, Membership]:
        reader.int32()
        return dict(reader.compact_array(group))

    body = Writer().compact_array(list(groups), Writer.compact_string).int8(0).no_tags().done()
    return Call(CONSUMER_GROUP_DESCRIBE, 0, body, read, flexible=True)


def describe_groups(groups: Sequence[str]) -> Call[dict[str, Membership]]:
    """Ask who belongs to classic groups; a group that is not there has no members."""

    def group(reader: Reader) -> tuple[str, Membership]:
        error, name, state, kind = reader.int16(), reader.string(), reader.string(), reader.string()
        reader.string()
        members = []
        for _ in range(reader.count()):
            member = reader.string()
            reader.string()
            reader.string()
            reader.blob()
            assignment = reader.blob()
            members.append((member, _assigned(assignment) if kind == "consumer" else []))
        return name, _membership(error, state, members)

    def read(reader: Reader) -> dict[str, Membership]:
        reader.int32()
        return dict(reader.array(group))

    return Call(15, 1, Writer().array(list(groups), Writer.string).done(), read)


def _membership(error: int, state: str, members: Sequence[tuple[str, list[tuple[str, list[int]]]]]) -> Membership:
    owners = {(topic, number): name for name, owned in members for topic, numbers in owned for number in numbers}
    return Membership(error, len(members), owners, state in _MOVING)


def _assigned(data: bytes) -> list[tuple[str, list[int]]]:
    """Return the partitions of a classic member, as the group's leader wrote them; foreign bytes name none."""
    if not data:
        return []
    reader = Reader(data)
    try:
        reader.int16()
        return reader.array(lambda one: (one.string(), one.array(Reader.int32)))
    except MalformedError:
        return []
