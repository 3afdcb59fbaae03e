"""Connectors, given to a server that answers as Connect does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest

from standin.connect import Connect
from standin.errors import StandinError
from standin.resources import Connector

CONNECTOR = Connector("outbox", {"connector.class": "a.B", "tasks.max": "1"})


class FakeConnect:
    """Connect's REST interface, as far as it is used: configurations by name, and a state to report."""

    def __init__(self) -> None:
        self.configs: dict[str, dict[str, str]] = {}
        self.state = "RUNNING"
        self.busy = 0
        self.refusal = ""
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                name, what = self.path.split("/")[2:4]
                if name not in fake.configs:
                    self._answer(404, {"message": "unknown"})
                elif what == "config":
                    self._answer(200, fake.configs[name])
                else:
                    part = {"state": fake.state, "trace": "java.lang.Oops: broken\n\tat x"}
                    self._answer(200, {"connector": {"state": "RUNNING"}, "tasks": [part]})

            def do_PUT(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if fake.refusal:
                    self._answer(400, {"message": fake.refusal})
                elif fake.busy:
                    fake.busy -= 1
                    self._answer(409, {"message": "rebalance"})
                else:
                    fake.configs[self.path.split("/")[2]] = body
                    self._answer(201, {})

            def _answer(self, status: int, body: Any) -> None:
                self.send_response(status)
                self.end_headers()
                self.wfile.write(json.dumps(body).encode())

            def log_message(self, *_: Any) -> None:
                """Say nothing on the terminal."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def fake() -> Iterator[FakeConnect]:
    one = FakeConnect()
    thread = Thread(target=one.server.serve_forever)
    thread.start()
    yield one
    one.server.shutdown()
    thread.join()
    one.server.server_close()


def test_a_connector_is_created_left_alone_and_changed(fake: FakeConnect) -> None:
    connect = Connect(fake.url)

    assert connect.apply(CONNECTOR) == "created"
    assert fake.configs["outbox"] == {**CONNECTOR.config, "name": "outbox"}
    assert connect.apply(CONNECTOR) == "unchanged"
    assert connect.apply(Connector("outbox", {**CONNECTOR.config, "tasks.max": "2"})) == "changed"
    assert fake.configs["outbox"]["tasks.max"] == "2"


def test_a_connect_that_is_sharing_out_work_is_asked_again(fake: FakeConnect) -> None:
    fake.busy = 1

    assert Connect(fake.url).apply(CONNECTOR) == "created"


def test_a_refusal_is_quoted(fake: FakeConnect) -> None:
    fake.refusal = "invalid value for tasks.max"

    with pytest.raises(StandinError, match=r"refuses connector outbox: invalid value for tasks\.max$"):
        Connect(fake.url).apply(CONNECTOR)


def test_a_connector_that_fails_is_said(fake: FakeConnect) -> None:
    fake.state = "FAILED"

    with pytest.raises(StandinError, match=r"connector outbox failed: java\.lang\.Oops: broken$"):
        Connect(fake.url).apply(CONNECTOR)


def test_a_connector_that_never_runs_is_given_up(fake: FakeConnect) -> None:
    fake.state = "UNASSIGNED"

    with pytest.raises(StandinError, match="did not run within 0 s: RUNNING, UNASSIGNED"):
        Connect(fake.url, patience=0).apply(CONNECTOR)


def test_a_connect_that_is_not_there_is_said() -> None:
    with pytest.raises(StandinError, match=r"Connect at http://127\.0\.0\.1:1 does not answer"):
        Connect("http://127.0.0.1:1").apply(CONNECTOR)
