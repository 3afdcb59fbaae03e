"""The brokers of one cluster: whom to connect to, whom to ask, and what became of it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from lagscaler.kafka.calls import Call, Metadata, Node, metadata
from lagscaler.kafka.connection import Connection, Unreachable
from lagscaler.kafka.credentials import Credentials, LoginRefused
from lagscaler.settings import Address, ClusterSettings, addresses

T = TypeVar("T")

logger = logging.getLogger(__name__)

ATTEMPT = 3.0
"""Seconds for one question to one broker, or for connecting to it."""


class Brokers:
    """
    Connections to a cluster's brokers, made when they are needed and kept.

    A change of the files with the credentials is noticed by `refresh`.
    """

    def __init__(self, settings: ClusterSettings, attempt: float = ATTEMPT) -> None:
        """`attempt` is in seconds; raises SettingsError for bootstrap servers that are not `host:port`."""
        self._credentials = Credentials(settings)
        self._attempt = attempt
        self._bootstrap = addresses(settings.bootstrap_servers, f"cluster {settings.name}")
        self._nodes: dict[int, Node] = {}
        self._connections: dict[Address, Connection] = {}
        self._opening: dict[Address, asyncio.Lock] = {}
        self._failed_at: dict[Address, float] = {}
        self._refused: dict[Address, tuple[float, Unreachable | LoginRefused]] = {}
        """When a connection could last not be made, and why."""
        self._closed = False

    async def refresh(self) -> None:
        """Connect anew where that is due: the credentials changed, or a login is about to expire."""
        if self._credentials.changed():
            logger.info("the credentials of Kafka cluster %s have changed", self._credentials.settings.name)
        for address, connection in list(self._connections.items()):
            if not connection.usable:
                connection.retire()
                del self._connections[address]

    async def metadata(self, topics: Sequence[str]) -> Metadata:
        """Return the brokers and these topics, as the first broker tells that answers; raise as `ask` does."""
        found = await self.ask(None, metadata(topics))
        self._nodes = dict(found.nodes)
        self._forget((self._opening.keys() | self._connections.keys()) - self._known())
        return found

    async def ask(self, node: Node | None, call: Call[T]) -> T:
        """
        Return a broker's answer, or that of the first that answers.

        Raises Unreachable when there is none, and LoginRefused when a login was refused and nobody answered.
        """
        if node is not None:
            return await self._ask((node.host, node.port), call)
        refusal: LoginRefused | None = None
        failures = []
        for address in self._candidates():
            try:
                return await self._ask(address, call)
            except LoginRefused as error:
                refusal = error
            except Unreachable as error:
                failures.append(str(error))
        if refusal is not None:
            raise refusal
        settings = self._credentials.settings
        raise Unreachable(
            f"no broker of cluster {settings.name} ({settings.bootstrap_servers}) answers: {'; '.join(failures[:3])}"
        )

    async def speaks(self, node: Node | None, api: int, version: int) -> bool:
        """Return whether a broker, or the one that is asked first, knows a version of an API; raise as `ask` does."""
        address = (node.host, node.port) if node else self._candidates()[0]
        return (await self._connection(address)).speaks(api, version)

    def node(self, number: int) -> Node | None:
        """Return the broker of an id, if it was seen."""
        return self._nodes.get(number)

    async def close(self) -> None:
        """Close all connections and make none any more; questions under way end with Unreachable."""
        self._closed = True
        connections, self._connections = list(self._connections.values()), {}
        for connection in connections:
            await connection.close()

    def _candidates(self) -> list[Address]:
        """Return where to ask: first what is connected, last what failed most recently."""
        return sorted(
            self._known(),
            key=lambda address: (
                address not in self._connections or not self._connections[address].usable,
                self._failed_at.get(address, 0.0),
            ),
        )

    def _forget(self, addresses: Iterable[Address]) -> None:
        """Let go of brokers that are no part of the cluster any more."""
        for address in addresses:
            self._opening.pop(address, None)
            self._failed_at.pop(address, None)
            self._refused.pop(address, None)
            if address in self._connections:
                self._connections.pop(address).retire()

    def _known(self) -> set[Address]:
        return {(node.host, node.port) for node in self._nodes.values()} | set(self._bootstrap)

    async def _ask(self, address: Address, call: Call[T]) -> T:
        """Ask one broker; a connection that stood and broke, as idle ones do, is made once more."""
        stood = address in self._connections
        connection = await self._connection(address)
        try:
            return await self._noted(address, connection, call)
        except Unreachable:
            if not stood or connection.timed_out:
                raise
        return await self._noted(address, await self._connection(address), call)

    async def _noted(self, address: Address, connection: Connection, call: Call[T]) -> T:
        try:
            return await connection.ask(call, self._attempt)
        except Unreachable as error:
            self._failed(address, error)
            raise

    def _failed(self, address: Address, error: Exception) -> None:
        """Remember a failure, and tell of the first one until the broker answers again."""
        if address not in self._failed_at and not self._closed:
            logger.warning("Kafka: %s", error)
        self._failed_at[address] = time.monotonic()

    async def _connection(self, address: Address) -> Connection:
        """Return a connection, made anew where none is usable; whoever waits meanwhile gets what came of that."""
        began = time.monotonic()
        async with self._opening.setdefault(address, asyncio.Lock()):
            self._check_open()
            present = self._connections.get(address)
            if present is not None and present.usable:
                return present
            if present is not None:
                present.retire()
                del self._connections[address]
            if address in self._refused and self._refused[address][0] > began:
                raise self._refused[address][1].with_traceback(None)
            try:
                opened = await Connection.open(*address, self._credentials, self._attempt)
            except (Unreachable, LoginRefused) as error:
                self._failed(address, error)
                self._refused[address] = (time.monotonic(), error)
                raise
            if self._closed:
                await opened.close()
            self._check_open()
            if self._failed_at.pop(address, None) is not None:
                logger.info("Kafka: broker %s:%d answers again", *address)
            self._refused.pop(address, None)
            self._connections[address] = opened
            return opened

    def _check_open(self) -> None:
        if self._closed:
            raise Unreachable(f"the connections to cluster {self._credentials.settings.name} were closed")


@contextmanager
def unless_silent(node: Node, silent: dict[Node, str]) -> Iterator[None]:
    """
    Ask a broker only once, if it does not answer: each further time costs as much time.

    `silent` has the brokers that did not, with the sentence; raises Unreachable with it, without running the block.
    """
    if node in silent:
        raise Unreachable(silent[node])
    try:
        yield
    except Unreachable as error:
        silent[node] = str(error)
        raise
