"""Answers probes and scrapes from threads of its own."""

from __future__ import annotations

import logging
import re
import socket
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import TracebackType
from typing import Any, NamedTuple, Self

from taskbridge.exceptions import ConfigurationError

log = logging.getLogger("taskbridge.http")

CLIENT_TIMEOUT = 10.0
"""Seconds for a client to say what it wants."""

_ADDRESS = re.compile(r"(?:\[(?P<v6>[0-9a-fA-F:.]+)\]|(?P<host>[^:\[\]]*)):(?P<port>[0-9]{1,5})")

TEXT = "text/plain; charset=utf-8"


class Answer(NamedTuple):
    """What a request gets."""

    body: bytes
    content_type: str = TEXT
    status: HTTPStatus = HTTPStatus.OK


Route = Callable[[str], Answer]
"""Takes the request's Accept header; runs in any thread."""


def probe(why_not: Callable[[], str]) -> Route:
    """Return a route that answers 503 with the sentence that `why_not` returns, and 200 when that is empty."""

    def answer(_: str) -> Answer:
        reason = why_not()
        if reason:
            return Answer(f"{reason}\n".encode(), status=HTTPStatus.SERVICE_UNAVAILABLE)
        return Answer(b"ok\n")

    return answer


class Server:
    """
    Listens from its making on; a context manager that answers within its block.

    Raises ConfigurationError when `listen` is not HOST:PORT or cannot be listened on.
    """

    def __init__(self, listen: str, routes: Mapping[str, Route]) -> None:
        """`routes` leads from paths to what answers there."""
        host, port = _parsed(listen)
        try:
            self._server = _Listener((host, port), routes, ":" in host)
        except OSError as error:
            raise ConfigurationError(f"--http {listen} cannot be listened on: {error.strerror or error}") from error
        self._thread = Thread(target=self._server.serve_forever, name="http", daemon=True)

    @property
    def address(self) -> str:
        """Where it listens, as HOST:PORT."""
        host, port = self._server.server_address[:2]
        return f"[{host!s}]:{port}" if ":" in str(host) else f"{host!s}:{port}"

    def __enter__(self) -> Self:
        """Begin to answer."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _parsed(listen: str) -> tuple[str, int]:
    found = _ADDRESS.fullmatch(listen)
    if found is None or int(found["port"]) > 65_535:
        raise ConfigurationError(f"--http {listen!r} is not HOST:PORT, such as 0.0.0.0:8080 or [::]:8080")
    return found["v6"] or found["host"] or "", int(found["port"])


class _Listener(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], routes: Mapping[str, Route], v6: bool) -> None:
        self.address_family = socket.AF_INET6 if v6 else socket.AF_INET
        self.routes = routes
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        # As the base class does, without asking a name server who we are.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]


class _Handler(BaseHTTPRequestHandler):
    server: _Listener
    server_version = "taskbridge"
    sys_version = ""
    timeout = CLIENT_TIMEOUT

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def _answer(self, with_body: bool) -> None:
        route = self.server.routes.get(self.path.partition("?")[0])
        if route is None:
            known = ", ".join(self.server.routes)
            answer = Answer(f"nothing is here; there are {known}\n".encode(), status=HTTPStatus.NOT_FOUND)
        else:
            answer = route(self.headers.get("Accept", ""))
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if with_body:
            self.wfile.write(answer.body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class calls it so
        log.debug(format, *args)
