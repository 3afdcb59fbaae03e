"""A broker in the test's own event loop, which answers as it is told and remembers what it was asked."""

from __future__ import annotations

import asyncio
import ssl
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from lagscaler.kafka.wire import Reader, Writer
from lagscaler.settings import ClusterSettings

VERSIONS, METADATA, COORDINATOR, FETCH, LIST, DESCRIBE, DESCRIBE_NEW = 18, 3, 10, 9, 2, 15, 69
HANDSHAKE, AUTHENTICATE = 17, 36
NEWEST = {
    HANDSHAKE: 1,
    AUTHENTICATE: 2,
    VERSIONS: 3,
    METADATA: 12,
    COORDINATOR: 4,
    FETCH: 8,
    LIST: 7,
    DESCRIBE: 5,
    DESCRIBE_NEW: 0,
}
OLDEST = {VERSIONS: 0, METADATA: 4, COORDINATOR: 1, FETCH: 3, LIST: 2, DESCRIBE: 1}

Log = list[tuple[int, int]]
"""Records as (offset, timestamp in ms), in order."""


@dataclass
class FakeBroker:
    """One broker. Everything may be changed while it runs."""

    id: int = 1
    others: dict[int, int] = field(default_factory=dict)
    """Ports of the cluster's other brokers, by id."""
    leader: int | None = None
    """The broker that leads every partition and coordinates every group; None: this one."""
    elsewhere: dict[str, int] = field(default_factory=dict)
    """Brokers that lead or coordinate instead, by topic or group."""

    versions: dict[int, int] = field(default_factory=lambda: dict(NEWEST))
    logs: dict[str, dict[int, Log]] = field(default_factory=dict)
    starts: dict[tuple[str, int], int] = field(default_factory=dict)
    commits: dict[str, dict[tuple[str, int], tuple[int, str]]] = field(default_factory=dict)
    members: dict[str, dict[str, list[tuple[str, int]]]] = field(default_factory=dict)
    new_protocol: set[str] = field(default_factory=set)
    unknown_group: int = 69
    """What is said of a group of the other protocol: 35 where KIP-848 is switched off."""
    state: str = "Stable"
    leaderless: set[tuple[str, int]] = field(default_factory=set)
    topic_errors: dict[str, int] = field(default_factory=dict)
    coordinator_errors: list[int] = field(default_factory=list)
    """Codes for the next questions, then 0."""
    group_errors: list[int] = field(default_factory=list)
    offset_errors: list[int] = field(default_factory=list)
    left_out: set[tuple[str, int]] = field(default_factory=set)
    """Partitions of which nothing is said."""
    silent: set[int] = field(default_factory=set)
    """APIs that are never answered."""
    hang_up: set[int] = field(default_factory=set)
    """APIs at which the connection is closed, once each."""
    refuses: bool = False
    """Whether new connections are closed at once."""
    instead: dict[int, Callable[[Reader], bytes]] = field(default_factory=dict)
    """What answers a question, by API; a ConnectionError closes the connection."""
    raw: dict[int, bytes] = field(default_factory=dict)
    """Answers to be sent as they are, by API."""
    asked: list[tuple[int, int]] = field(default_factory=list)
    password: str = ""
    """What a login by PLAIN must bring; every other one is refused."""
    lifetime: int = 0
    """For how many ms a login holds; 0: for ever."""
    clock: Callable[[], float] = time.monotonic
    """What logins end by, in seconds."""
    late: list[int] = field(default_factory=list)
    """APIs of questions that came after the login had ended: the connection is closed then."""
    tls: ssl.SSLContext | None = None
    port: int = 0
    connections: int = 0
    """So many were made."""
    open: int = 0

    async def __aenter__(self) -> Self:
        self._writers: list[asyncio.StreamWriter] = []
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self.tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await self._server.wait_closed()

    @property
    def settings(self) -> ClusterSettings:
        return ClusterSettings("main", f"127.0.0.1:{self.port}")

    def count(self, api: int) -> int:
        return sum(1 for one, _ in self.asked if one == api)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.append(writer)
        self.open += 1
        ends_at = float("inf")
        try:
            while not self.refuses:
                length = int.from_bytes(await reader.readexactly(4), "big")
                if length > 100_000_000:
                    break  # as Kafka does, which takes the beginning of TLS for a length
                request = Reader(await reader.readexactly(length))
                api, version, number = request.int16(), request.int16(), request.int32()
                request.string()
                self.asked.append((api, version))
                if self.clock() >= ends_at:
                    self.late.append(api)
                    break
                if api == AUTHENTICATE and self.lifetime:
                    ends_at = self.clock() + self.lifetime / 1000
                if api in self.silent:
                    continue
                if api in self.hang_up:
                    self.hang_up.discard(api)
                    break
                flexible = (api, version) in {(COORDINATOR, 4), (FETCH, 8), (DESCRIBE_NEW, 0)}
                if flexible:
                    request.skip_tags()
                head = Writer().int32(number)
                if flexible:
                    head.no_tags()
                answer = head.done() + (self.raw[api] if api in self.raw else self._answer(api, version, request))
                writer.write(len(answer).to_bytes(4, "big") + answer)
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            self.open -= 1
            writer.close()

    def _answer(self, api: int, version: int, request: Reader) -> bytes:
        answers: dict[tuple[int, int], Callable[[Reader], bytes]] = {
            (VERSIONS, 0): self._versions,
            (HANDSHAKE, 1): self._handshake,
            (AUTHENTICATE, 1): self._authenticate,
            (METADATA, 4): self._metadata,
            (COORDINATOR, 1): self._coordinator,
            (COORDINATOR, 4): self._coordinators,
            (FETCH, 3): self._commits_of_one,
            (FETCH, 8): self._commits,
            (LIST, 2): self.offsets,
            (DESCRIBE, 1): self._classic,
            (DESCRIBE_NEW, 0): self._new,
        }
        return self.instead.get(api, answers[api, version])(request)

    def _versions(self, _: Reader) -> bytes:
        rows = list(self.versions.items())
        return Writer().int16(0).array(rows, lambda out, row: out.int16(row[0]).int16(0).int16(row[1])).done()

    def _handshake(self, request: Reader) -> bytes:
        known = request.string() == "PLAIN"
        return Writer().int16(0 if known else 33).array(["PLAIN"], Writer.string).done()

    def _authenticate(self, request: Reader) -> bytes:
        known = request.blob() == f"\0operator\0{self.password}".encode()
        said = "" if known else "no such user or password"
        return Writer().int16(0 if known else 58).string(said).blob(b"").int64(self.lifetime).done()

    def _metadata(self, request: Reader) -> bytes:
        names = request.array(Reader.string)
        assert request.int8() == 0, "topics must not be created by asking for them"

        def partition(out: Writer, item: tuple[str, int]) -> None:
            leader = -1 if item in self.leaderless else self._leading(item[0])[0]
            out.int16(0).int32(item[1]).int32(leader).array([1], Writer.int32).array([1], Writer.int32)

        def topic(out: Writer, name: str) -> None:
            error = self.topic_errors.get(name, 0 if name in self.logs else 3)
            numbers = [] if error else [(name, number) for number in self.logs[name]]
            out.int16(error).string(name).int8(0).array(numbers, partition)

        nodes = list({self.id: self.port, **self.others}.items())
        out = Writer().int32(0)
        out.array(nodes, lambda row, node: row.int32(node[0]).string("127.0.0.1").int32(node[1]).string(""))
        return out.string("cluster").int32(1).array(names, topic).done()

    def _leading(self, name: str) -> tuple[int, int]:
        id_ = self.elsewhere.get(name, self.leader or self.id)
        return id_, {self.id: self.port, **self.others}[id_]

    def _coordinator(self, request: Reader) -> bytes:
        id_, port = self._leading(request.string())
        error = self.coordinator_errors.pop(0) if self.coordinator_errors else 0
        return Writer().int32(0).int16(error).string("").int32(id_).string("127.0.0.1").int32(port).done()

    def _coordinators(self, request: Reader) -> bytes:
        request.int8()
        error = self.coordinator_errors.pop(0) if self.coordinator_errors else 0

        def one(out: Writer, group: str) -> None:
            id_, port = self._leading(group)
            out.compact_string(group).int32(id_).compact_string("127.0.0.1").int32(port).int16(error)
            out.compact_string(None).no_tags()

        return Writer().int32(0).compact_array(request.compact_array(Reader.compact_string), one).no_tags().done()

    def _stored(self, group: str, topic: str, number: int) -> tuple[int, str]:
        return self.commits.get(group, {}).get((topic, number), (-1, ""))

    def _commits_of_one(self, request: Reader) -> bytes:
        group = request.string()
        topics = request.array(lambda one: (one.string(), one.array(Reader.int32)))
        error = self.group_errors.pop(0) if self.group_errors else 0

        def write(out: Writer, item: tuple[str, list[int]]) -> None:
            def partition(row: Writer, number: int) -> None:
                offset, text = self._stored(group, item[0], number)
                row.int32(number).int64(offset).string(text).int16(0)

            out.string(item[0]).array([] if error else item[1], partition)

        return Writer().int32(0).array(topics, write).int16(error).done()

    def _commits(self, request: Reader) -> bytes:
        def asked(one: Reader) -> tuple[str, list[tuple[str, list[int]]]]:
            name = one.compact_string()
            topics = []
            for _ in range(one.unsigned() - 1):
                topics.append((one.compact_string(), one.compact_array(Reader.int32)))
                one.skip_tags()
            one.skip_tags()
            return name, topics

        error = self.group_errors.pop(0) if self.group_errors else 0

        def write(out: Writer, item: tuple[str, list[tuple[str, list[int]]]]) -> None:
            group, topics = item

            def topic(rows: Writer, one: tuple[str, list[int]]) -> None:
                name, numbers = one
                kept = [number for number in numbers if (name, number) not in self.left_out]

                def partition(row: Writer, number: int) -> None:
                    offset, text = self._stored(group, name, number)
                    row.int32(number).int64(offset).int32(-1).compact_string(text or None).int16(0).no_tags()

                rows.compact_string(name).compact_array(kept, partition).no_tags()

            out.compact_string(group).compact_array([] if error else topics, topic).int16(error).no_tags()

        return Writer().int32(0).compact_array(request.compact_array(asked), write).no_tags().done()

    def offsets(self, request: Reader) -> bytes:
        """Answer ListOffsets."""
        assert request.int32() == -1
        request.int8()
        topics = request.array(lambda one: (one.string(), one.array(lambda row: (row.int32(), row.int64()))))
        error = self.offset_errors.pop(0) if self.offset_errors else 0

        def write(out: Writer, item: tuple[str, list[tuple[int, int]]]) -> None:
            name, wanted = item

            def partition(row: Writer, one: tuple[int, int]) -> None:
                number, timestamp = one
                log = self.logs[name][number]
                end = log[-1][0] + 1 if log else 0
                if timestamp == -2:
                    offset, at = self.starts.get((name, number), log[0][0] if log else 0), -1
                elif timestamp == -1:
                    offset, at = end, -1
                else:
                    offset, at = next(((place, when) for place, when in log if when >= timestamp), (-1, -1))
                row.int32(number).int16(error).raw(struct.pack(">qq", at, offset))

            out.string(name).array(wanted, partition)

        return Writer().int32(0).array(topics, write).done()

    def _classic(self, request: Reader) -> bytes:
        def group(out: Writer, name: str) -> None:
            known = name in self.members and name not in self.new_protocol
            members = list(self.members[name].items()) if known else []
            out.int16(0).string(name).string(self.state if known else "Dead").string("consumer").string("range")
            out.array(members, member)

        def member(out: Writer, item: tuple[str, list[tuple[str, int]]]) -> None:
            name, owned = item
            assignment = (
                Writer().int16(0).array(owned, lambda row, one: row.string(one[0]).array([one[1]], Writer.int32))
            )
            out.string(name).string("client").string("/host").blob(b"").blob(assignment.int32(-1).done())

        return Writer().int32(0).array(request.array(Reader.string), group).done()

    def _new(self, request: Reader) -> bytes:
        def assignment(out: Writer, owned: list[tuple[str, int]]) -> None:
            def topic(row: Writer, one: tuple[str, int]) -> None:
                row.raw(bytes(16)).compact_string(one[0]).compact_array([one[1]], Writer.int32).no_tags()

            out.compact_array(owned, topic).no_tags()

        def member(out: Writer, item: tuple[str, list[tuple[str, int]]]) -> None:
            name, owned = item
            out.compact_string(name).compact_string(None).compact_string("rack").int32(3).compact_string("client")
            out.compact_string("/host").compact_array(["orders"], Writer.compact_string).compact_string(None)
            assignment(out, owned)
            assignment(out, [])
            out.no_tags()

        def group(out: Writer, name: str) -> None:
            known = name in self.new_protocol
            members: list[Any] = list(self.members.get(name, {}).items()) if known else []
            out.int16(0 if known else self.unknown_group).compact_string(None).compact_string(name)
            out.compact_string(self.state if known else "").int32(4).int32(4).compact_string("uniform")
            out.compact_array(members, member).int32(-2147483648).no_tags()

        return Writer().int32(0).compact_array(request.compact_array(Reader.compact_string), group).no_tags().done()
