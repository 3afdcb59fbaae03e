"""The Kubernetes API with nothing but the standard library: JSON over HTTPS, by client certificate."""

import base64
import http.client
import json
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cluster.errors import ClusterError

__all__ = ["Api", "ApiError"]

Json = dict[str, Any]
_TIMEOUT = 10.0
_WATCH_TIMEOUT = 60.0


class ApiError(ClusterError):
    """The API server refused a request, or did not answer it."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status
        """The HTTP status; 0 when there was no answer."""


class Api:
    """A client for the server that a kubeconfig names: one that this tool wrote."""

    def __init__(self, kubeconfig: Path) -> None:
        raw = json.loads(kubeconfig.read_text())
        cluster, user = raw["clusters"][0]["cluster"], raw["users"][0]["user"]
        self._address = urlsplit(cluster["server"])
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        self._tls = ssl.create_default_context(cadata=authority)
        # The ssl module takes a client's certificate from files only.
        with tempfile.NamedTemporaryFile("wb") as pem:
            pem.write(base64.b64decode(user["client-certificate-data"]))
            pem.write(base64.b64decode(user["client-key-data"]))
            pem.flush()
            self._tls.load_cert_chain(pem.name)

    def _connect(self, timeout: float) -> http.client.HTTPSConnection:
        host, port = self._address.hostname or "", self._address.port
        return http.client.HTTPSConnection(host, port, timeout=timeout, context=self._tls)

    def _send(
        self, connection: http.client.HTTPSConnection, method: str, path: str, body: Json | None, content_type: str
    ) -> http.client.HTTPResponse:
        raw = None if body is None else json.dumps(body)
        try:
            connection.request(method, path, raw, {"Content-Type": content_type, "Accept": "application/json"})
            answer = connection.getresponse()
        except (OSError, http.client.HTTPException) as silent:
            raise ApiError(f"The API server at {self._address.netloc} does not answer: {silent}") from silent
        if answer.status >= 400:
            text = answer.read().decode(errors="replace")[:300]
            raise ApiError(f"The API server answered {method} {path} with {answer.status}: {text}", answer.status)
        return answer

    def request(self, method: str, path: str, body: Json | None = None, content_type: str = "application/json") -> Any:
        """Return the decoded answer; text where it is not JSON. Raises ApiError."""
        with closing(self._connect(_TIMEOUT)) as connection:
            raw = self._send(connection, method, path, body, content_type).read()
        try:
            return json.loads(raw)
        except ValueError:
            return raw.decode(errors="replace")

    def get(self, path: str) -> Any:
        """Return what is at the path."""
        return self.request("GET", path)

    def is_ready(self) -> bool:
        """Whether the server says that it can be used."""
        try:
            return bool(self.get("/readyz") == "ok")
        except ApiError:
            return False

    def watch(self, path: str, version: str) -> Iterator[tuple[str, Json]]:
        """
        Yield (type, object) for what changes after `version`, until the server ends the watch, within a minute.

        Raises ApiError; its status is 410 when the server no longer knows that version.
        """
        query = f"{path}?watch=1&resourceVersion={version}&timeoutSeconds={_WATCH_TIMEOUT - _TIMEOUT:.0f}"
        with closing(self._connect(_WATCH_TIMEOUT)) as connection:
            answer = self._send(connection, "GET", query, None, "application/json")
            try:
                for line in answer:
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        status = event["object"]
                        raise ApiError(f"The watch of {path} ended: {status.get('message')}", status.get("code", 0))
                    yield event["type"], event["object"]
            # A connection that is cut within a line leaves a half of it.
            except (OSError, ValueError, http.client.HTTPException) as broken:
                raise ApiError(f"The watch of {path} broke: {broken}") from broken
