"""Connectors of a real Kafka Connect, through its REST interface."""

import json
import time
import urllib.error
import urllib.request
from threading import Event
from typing import Any
from urllib.parse import quote

from standin.errors import StandinError
from standin.resources import Connector

__all__ = ["Connect"]

TIMEOUT = 30.0
"""Seconds for one request: Connect tries a connector's configuration before it answers."""

INTERVAL = 0.5
"""Seconds between looks while a connector starts, or Connect is busy sharing out work."""

BUSY = {404, 409}
"""Connect answers so while a connector is not known to every worker yet."""


class Connect:
    """One Connect cluster; every method raises StandinError when it refuses or does not answer."""

    def __init__(self, url: str, patience: float = 60.0) -> None:
        """`patience`: seconds that a connector may take until it runs."""
        self._url = url.rstrip("/")
        self._patience = patience

    def apply(self, connector: Connector) -> str:
        """
        Create or reconfigure a connector and wait until it runs with a task.

        Returns `created`, `changed` or `unchanged`.
        """
        deadline = time.monotonic() + self._patience
        place = f"/connectors/{quote(connector.name)}"
        status, found = self._ask("GET", f"{place}/config")
        wanted = {**connector.config, "name": connector.name}
        outcome = "created" if status == 404 else "unchanged" if found == wanted else "changed"
        while outcome != "unchanged":
            status, answer = self._ask("PUT", f"{place}/config", wanted)
            if status < 300:
                break
            if status not in BUSY or time.monotonic() > deadline:
                raise StandinError(f"Connect refuses connector {connector.name}: {_reason(answer)}")
            Event().wait(INTERVAL)
        self._wait(connector.name, deadline)
        return outcome

    def _wait(self, name: str, deadline: float) -> None:
        while True:
            status, answer = self._ask("GET", f"/connectors/{quote(name)}/status")
            parts = [answer.get("connector", {}), *answer.get("tasks", [])] if status == 200 else []
            for part in parts:
                if part.get("state") == "FAILED":
                    trace = str(part.get("trace") or "it does not say why")
                    raise StandinError(f"connector {name} failed: {trace.splitlines()[0]}")
            if len(parts) > 1 and all(part.get("state") == "RUNNING" for part in parts):
                return
            if time.monotonic() > deadline:
                states = ", ".join(str(part.get("state")) for part in parts) or f"status {status}"
                raise StandinError(f"connector {name} did not run within {self._patience:g} s: {states}.")
            Event().wait(INTERVAL)

    def _ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        request = urllib.request.Request(  # noqa: S310 - the scheme is the user's own
            self._url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:  # noqa: S310
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as refused:
            with refused:
                text = refused.read().decode(errors="replace")
            try:
                return refused.code, json.loads(text)
            except ValueError:
                return refused.code, {"message": text}
        except OSError as error:
            raise StandinError(f"Connect at {self._url} does not answer: {error}") from error


def _reason(answer: Any) -> str:
    return str(answer.get("message", answer)) if isinstance(answer, dict) else str(answer)
