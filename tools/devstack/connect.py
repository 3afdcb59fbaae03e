"""Kafka Connect: one worker, with the plugins that it is given."""

from collections.abc import Mapping
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

from devstack import jars
from devstack.errors import NotReadyError
from devstack.ports import HOST
from devstack.process import Spec, server_environment
from devstack.service import Service

__all__ = ["Connect"]

_LOGGING = Path(__file__).with_name("log4j2.properties")
_ATTEMPT = 2.0


class Connect(Service):
    """A distributed worker, which is content with being the only one; what it knows is kept in Kafka."""

    name = "connect"
    url_variable = "KAFKA_CONNECT_URL"
    start_timeout = 120.0

    def __init__(
        self, directory: Path, *, properties: Mapping[str, str], libraries: Path, plugins: Path, **service: Any
    ) -> None:
        """`properties` are the worker's, `libraries` a folder of jars with Connect's own, `plugins` its plugin path."""
        super().__init__(directory, **service)
        self._properties = properties
        self._libraries = libraries
        self._plugins = plugins

    @property
    def url(self) -> str:
        """The REST interface."""
        return f"http://{HOST}:{self.port}"

    def configure(self) -> Spec:
        """Write the worker's properties, which may hold passwords, and return the command."""
        file = self.directory / "connect.properties"
        settings = {
            **self._properties,
            "listeners": self.url,
            "plugin.path": str(self._plugins),
            "plugin.discovery": "only_scan",
            # A worker that comes back takes its work up at once, instead of leaving it to others for five minutes.
            "scheduled.rebalance.max.delay.ms": "0",
        }
        file.touch(mode=0o600)
        file.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        options = ["-Xmx512m", "-XX:+UseSerialGC", "-XX:+ExitOnOutOfMemoryError"]
        logging = f"-Dlog4j2.configurationFile={_LOGGING}"
        program = ["org.apache.kafka.connect.cli.ConnectDistributed", str(file)]
        return Spec(
            command=[str(jars.find_java()), *options, logging, "-cp", jars.class_path(self._libraries), *program],
            directory=str(self.directory),
            log=str(self.log_path),
            owner=self._owner,
            environment=server_environment(),
            dispose=self._dispose,
        )

    def probe(self) -> None:
        """Ask the worker once whether it takes connectors; raises NotReadyError."""
        connection = HTTPConnection(HOST, self.port, timeout=_ATTEMPT)
        try:
            connection.request("GET", "/connectors")
            answer = connection.getresponse()
            answer.read()
        except (OSError, HTTPException) as silent:
            raise NotReadyError(str(silent)) from silent
        finally:
            connection.close()
        if answer.status != HTTPStatus.OK:
            raise NotReadyError(f"it answers with status {answer.status}")
