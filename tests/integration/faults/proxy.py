"""Something between a client and Kafka that loses, cuts or changes what the broker answers."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import closing

PRODUCE = 0

Answer = Callable[[int, int, bytes], bytes | None]
"""Given the API's key and version, and an answer without its length: returns what to pass on, None for nothing."""


class Cut(Exception):
    """Raised by an Answer: pass half of it on, and close the connection."""


class Proxy:
    """
    Listens on a port of its own and passes everything on, until `answer` is set.

    What the broker says of its own address is changed on the way, so that clients stay here.
    """

    def __init__(self, upstream: str) -> None:
        host, port = upstream.split(":")
        self._upstream = host, int(port)
        self._server = socket.create_server((host, 0))
        self._port = self._server.getsockname()[1]
        self._open: list[socket.socket] = []
        self.url = f"{host}:{self._port}"
        self.answer: Answer = lambda _key, _version, payload: payload
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Close the port and all connections."""
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for one in self._open:
            _shut(one)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            try:
                broker = socket.create_connection(self._upstream)
            except OSError:
                client.close()
                continue
            self._open += [client, broker]
            asked: dict[int, tuple[int, int]] = {}
            for target, source, sink in ((self._requests, client, broker), (self._answers, broker, client)):
                threading.Thread(target=self._pump, args=(target, source, sink, asked), daemon=True).start()

    def _pump(
        self,
        frame: Callable[[bytes, dict[int, tuple[int, int]]], bytes | None],
        source: socket.socket,
        sink: socket.socket,
        asked: dict[int, tuple[int, int]],
    ) -> None:
        try:
            while payload := _read(source):
                changed = frame(payload, asked)
                if changed is not None:
                    sink.sendall(len(changed).to_bytes(4, "big") + changed)
        except Cut:
            sink.sendall(len(payload).to_bytes(4, "big") + payload[: len(payload) // 2])
        except OSError:
            pass
        finally:
            _shut(source)
            _shut(sink)

    def _requests(self, payload: bytes, asked: dict[int, tuple[int, int]]) -> bytes:
        key, version = int.from_bytes(payload[:2], "big"), int.from_bytes(payload[2:4], "big")
        asked[int.from_bytes(payload[4:8], "big")] = key, version
        return payload

    def _answers(self, payload: bytes, asked: dict[int, tuple[int, int]]) -> bytes | None:
        key, version = asked.pop(int.from_bytes(payload[:4], "big"))
        host, port = self._upstream
        address = host.encode() + port.to_bytes(4, "big")
        here = host.encode() + self._port.to_bytes(4, "big")
        return self.answer(key, version, payload.replace(address, here))


def with_error(version: int, payload: bytes, topic: str, code: int) -> bytes:
    """Return the answer to a Produce request for one partition of a topic, with an error instead of its own."""
    # Behind the topic's name come the number of partitions (in new versions one byte) and the partition's index.
    place = payload.index(topic.encode()) + len(topic) + (1 if version >= 9 else 4) + 4
    return payload[:place] + code.to_bytes(2, "big") + payload[place + 2 :]


def _read(source: socket.socket) -> bytes:
    head = _exactly(source, 4)
    return _exactly(source, int.from_bytes(head, "big")) if head else b""


def _exactly(source: socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count:
        part = source.recv(count - len(found))
        if not part:
            return b""
        found += part
    return found


def _shut(one: socket.socket) -> None:
    with closing(one):
        try:
            one.shutdown(socket.SHUT_RDWR)
        except OSError:
            return
