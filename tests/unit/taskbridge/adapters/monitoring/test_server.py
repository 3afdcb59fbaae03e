"""The server that answers probes and scrapes."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from http.client import HTTPConnection

import pytest

from taskbridge.adapters.monitoring import server as module
from taskbridge.adapters.monitoring.server import Answer, Server, probe
from taskbridge.exceptions import ConfigurationError


class World:
    """A server whose state a test sets."""

    def __init__(self) -> None:
        self.why = ""
        self.server = Server(
            "127.0.0.1:0",
            {"/healthz": probe(lambda: self.why), "/metrics": lambda accept: Answer(accept.encode(), "text/x-echo")},
        )

    def ask(self, path: str, method: str = "GET", **headers: str) -> tuple[int, str, bytes]:
        connection = HTTPConnection(self.server.address, timeout=60)
        try:
            connection.request(method, path, headers=headers)
            response = connection.getresponse()
            return response.status, response.headers.get("Content-Type", ""), response.read()
        finally:
            connection.close()


@pytest.fixture
def world() -> Iterator[World]:
    one = World()
    with one.server:
        yield one


def test_what_is_well_says_so_and_what_is_not_says_why(world: World) -> None:
    assert world.ask("/healthz") == (200, "text/plain; charset=utf-8", b"ok\n")
    world.why = "the loop has not come round for 61 s"
    assert world.ask("/healthz?verbose") == (
        503,
        "text/plain; charset=utf-8",
        b"the loop has not come round for 61 s\n",
    )


def test_a_scrape_gets_what_it_accepts(world: World) -> None:
    assert world.ask("/metrics", Accept="text/plain") == (200, "text/x-echo", b"text/plain")
    assert world.ask("/metrics", method="HEAD", Accept="text/plain") == (200, "text/x-echo", b"")


def test_other_places_and_methods(world: World) -> None:
    status, _, body = world.ask("/")
    assert (status, body) == (404, b"nothing is here; there are /healthz, /metrics\n")
    assert world.ask("/healthz", method="POST")[0] == 501


def test_a_client_that_says_nothing_holds_up_nobody(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module._Handler, "timeout", 0.2)
    host, port = world.server.address.split(":")
    with socket.create_connection((host, int(port))) as silent:
        assert world.ask("/healthz")[0] == 200
        silent.settimeout(10)
        assert silent.recv(1) == b"", "and is not waited for for ever"


def test_it_is_gone_when_it_has_ended() -> None:
    one = World()
    with one.server:
        assert one.ask("/healthz")[0] == 200
    with pytest.raises(ConnectionRefusedError):
        one.ask("/healthz")


@pytest.mark.parametrize("listen", ["", "8080", "host", "host:", "host:http", "host:65536", "::1:80", "[::1:80"])
def test_what_is_no_address_is_refused(listen: str) -> None:
    with pytest.raises(ConfigurationError, match=r"is not HOST:PORT, such as 0\.0\.0\.0:8080 or \[::\]:8080"):
        Server(listen, {})


def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConfigurationError, match=f"--http {listen} cannot be listened on: .*in use"):
            Server(listen, {})
