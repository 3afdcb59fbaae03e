"""
Questions to one broker: its versions, its login, topics, and offsets of logs.

Each function returns a call: what is sent, and how the answer is read. The versions are old ones on purpose: every
broker since Kafka 1.0 speaks them, and their rows have fixed layouts. Source: https://kafka.apache.org/protocol.html.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from lagscaler.kafka.wire import Reader, Writer
from lagscaler.policy.model import TopicPartition

T = TypeVar("T")

EARLIEST = -2
"""The timestamp that asks for a log's first offset."""

LATEST = -1
"""The timestamp that asks for a log's end."""

_CONSUMER = -1
"""As the id of a replica: whoever asks is none."""

_PARTITION = struct.Struct(">hii")
_OFFSET = struct.Struct(">ihqq")


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """A question: `api` and `version` of the protocol, the body, and how the body of the answer is read."""

    api: int
    version: int
    body: bytes
    read: Callable[[Reader], T]
    flexible: bool = False
    """Whether the version has compact forms and tagged fields, also in its headers."""


@dataclass(frozen=True, slots=True)
class Node:
    """A broker, and where it is reached."""

    id: int
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic: an error code, or for each of its partitions the leader's id, below 0 where there is none."""

    error: int
    leaders: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Metadata:
    """The brokers, and the topics that were asked for."""

    nodes: Mapping[int, Node]
    topics: Mapping[str, Topic]


@dataclass(frozen=True, slots=True)
class LogOffset:
    """An offset of a log and the time of the record there, in ms, below 0 where that is not told; or an error code."""

    error: int
    offset: int
    timestamp: int


@dataclass(frozen=True, slots=True)
class Login:
    """A step of a login: an error code with its sentence, or what the server says and for how many ms it holds."""

    error: int
    message: str
    data: bytes
    lifetime: int


def versions() -> Call[dict[int, tuple[int, int]]]:
    """Ask which versions a broker speaks: by API the lowest and the highest."""

    def read(reader: Reader) -> dict[int, tuple[int, int]]:
        reader.int16()
        return {reader.int16(): (reader.int16(), reader.int16()) for _ in range(reader.count())}

    return Call(18, 0, b"", read)


def handshake(mechanism: str) -> Call[tuple[int, list[str]]]:
    """Ask to log in by a mechanism; the answer is an error code and the mechanisms that there are."""
    return Call(17, 1, Writer().string(mechanism).done(), lambda reader: (reader.int16(), reader.array(Reader.string)))


def authenticate(data: bytes, version: int) -> Call[Login]:
    """Take a step of the login; version 1 tells how long it holds."""

    def read(reader: Reader) -> Login:
        error, message, answer = reader.int16(), reader.string(), reader.blob()
        return Login(error, message, answer, reader.int64() if version else 0)

    return Call(36, version, Writer().blob(data).done(), read)


def metadata(topics: Sequence[str]) -> Call[Metadata]:
    """Ask for brokers and topics; a topic that is missing is not created."""

    def read(reader: Reader) -> Metadata:
        reader.int32()
        nodes = reader.array(_node)
        reader.string()
        reader.int32()
        return Metadata({node.id: node for node in nodes}, dict(reader.array(_topic)))

    return Call(3, 4, Writer().array(list(topics), Writer.string).int8(0).done(), read)


def list_offsets(
    wanted: Iterable[tuple[TopicPartition, int]], read_committed: bool
) -> Call[dict[TopicPartition, LogOffset]]:
    """
    Ask the leader of partitions for offsets: EARLIEST, LATEST, or the first record written at a time (ms) or after it.

    With `read_committed` a log ends at its last stable offset, before the first record of an open transaction.
    """
    by_topic: dict[str, list[tuple[int, int]]] = {}
    for (topic, partition), timestamp in wanted:
        by_topic.setdefault(topic, []).append((partition, timestamp))

    def write(writer: Writer, item: tuple[str, list[tuple[int, int]]]) -> None:
        name, partitions = item
        writer.string(name).array(partitions, lambda out, one: out.int32(one[0]).int64(one[1]))

    def read(reader: Reader) -> dict[TopicPartition, LogOffset]:
        found = {}
        reader.int32()
        for _ in range(reader.count()):
            name = reader.string()
            for partition, error, timestamp, offset in reader.rows(_OFFSET):
                found[name, partition] = LogOffset(error, offset, timestamp)
        return found

    body = Writer().int32(_CONSUMER).int8(int(read_committed)).array(list(by_topic.items()), write)
    return Call(2, 2, body.done(), read)


def _node(reader: Reader) -> Node:
    node = Node(reader.int32(), reader.string(), reader.int32())
    reader.string()
    return node


def _topic(reader: Reader) -> tuple[str, Topic]:
    error, name, _internal = reader.int16(), reader.string(), reader.int8()
    leaders = {}
    for _ in range(reader.count()):
        _error, partition, leader = _PARTITION.unpack(reader.take(_PARTITION.size))
        reader.skip_numbers()
        reader.skip_numbers()
        leaders[partition] = leader
    return name, Topic(error, leaders)
