"""Apache Kafka: one process that is both broker and controller (KRaft)."""

import base64
import os
import shutil
import time
import uuid
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from devstack import jars
from devstack.ports import HOST
from devstack.process import Spec, server_environment
from devstack.service import Service

__all__ = ["Kafka"]

_LOGGING = Path(__file__).with_name("log4j2.properties")
_DAY_MINUTES = 24 * 60
# Writing the class archive takes three seconds on an idle machine.
_GRACE = 30.0

_SETTINGS = {
    "process.roles": "broker,controller",
    "node.id": 1,
    "controller.listener.names": "CONTROLLER",
    "auto.create.topics.enable": "false",
    "num.partitions": 1,
    "default.replication.factor": 1,
    "min.insync.replicas": 1,
    "offsets.topic.replication.factor": 1,
    # Fifty partitions each, the default, would be created one after the other at the first use.
    "offsets.topic.num.partitions": 5,
    "offsets.retention.minutes": 30 * _DAY_MINUTES,
    "transaction.state.log.replication.factor": 1,
    "transaction.state.log.min.isr": 1,
    "transaction.state.log.num.partitions": 5,
    "share.coordinator.state.topic.replication.factor": 1,
    "share.coordinator.state.topic.min.isr": 1,
    "share.coordinator.state.topic.num.partitions": 5,
    # Groups of tests form and lose members all the time: notice it in seconds.
    "group.initial.rebalance.delay.ms": 0,
    "group.min.session.timeout.ms": 1_000,
    "group.consumer.min.session.timeout.ms": 1_000,
    "group.consumer.session.timeout.ms": 6_000,
    "group.consumer.min.heartbeat.interval.ms": 100,
    "group.consumer.heartbeat.interval.ms": 1_000,
    # After a crash the broker may register again only when its former session has expired.
    "broker.session.timeout.ms": 2_000,
    "broker.heartbeat.interval.ms": 500,
    "log.cleaner.dedupe.buffer.size": 16 * 1024 * 1024,
}


class Kafka(Service):
    """A single-node cluster without authentication, on the loopback interface."""

    name = "kafka"
    port_names: ClassVar[tuple[str, ...]] = ("client", "controller")
    url_variable = "KAFKA_BOOTSTRAP_SERVERS"
    stop_timeout = _GRACE + 10.0

    @property
    def url(self) -> str:
        """The bootstrap servers."""
        return f"{HOST}:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """The bootstrap servers and the security protocol."""
        return {self.url_variable: self.url, "KAFKA_SECURITY_PROTOCOL": "PLAINTEXT"}

    def configure(self) -> Spec:
        """Write server.properties and return the command, with the storage's formatting before it if new."""
        java = jars.find_java()
        folder = jars.fetch(self._report)
        class_path = jars.class_path(folder)
        archive = jars.class_archive(folder, java)
        data, properties = self.directory / "data", self.directory / "server.properties"
        controller = self.address("controller")
        settings = {
            **_SETTINGS,
            "controller.quorum.voters": f"1@{controller}",
            "log.dirs": data,
            **self.listeners(controller),
        }
        properties.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        logging = f"-Dlog4j2.configurationFile={_LOGGING}"
        spec = Spec(
            command=[
                str(java),
                "-Xmx512m",
                "-XX:+UseSerialGC",
                "-XX:+ExitOnOutOfMemoryError",
                self._share_classes(archive),
                logging,
                "-cp",
                class_path,
                "kafka.Kafka",
                str(properties),
            ],
            directory=str(self.directory),
            log=str(self.log_path),
            owner=self._owner,
            environment=server_environment(),
            grace=_GRACE,
            dispose=self._dispose,
        )
        if (data / "meta.properties").exists():
            return spec
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        tool = [str(java), "-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        if archive.exists():
            tool.append(self._share_classes(archive))
        # One argument: an id may begin with a dash.
        arguments = ["format", f"--cluster-id={cluster}", "--config", str(properties), "--ignore-formatted"]
        return replace(spec, prepare=[[*tool, logging, "-cp", class_path, "kafka.tools.StorageTool", *arguments]])

    def address(self, port: str) -> str:
        """Return `host:port` of one of the server's ports."""
        return f"{HOST}:{self.state.ports[port]}"

    def listeners(self, controller: str) -> dict[str, str]:
        """Return the settings by which clients, and the controller's peers, get in."""
        return {
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "listeners": f"PLAINTEXT://{self.url},CONTROLLER://{controller}",
            "advertised.listeners": f"PLAINTEXT://{self.url}",
        }

    def _share_classes(self, archive: Path) -> str:
        """
        Return the option by which the JVM reads parsed classes from the archive, or writes it as it ends.

        Halves the time to start. Java itself ignores an archive of other jars or another release.
        """
        if archive.exists():
            return f"-XX:SharedArchiveFile={archive}"
        draft = self.directory / archive.name
        draft.unlink(missing_ok=True)
        return f"-XX:ArchiveClassesAtExit={draft}"

    def stop(self) -> None:
        """Stop the broker; the first one to end in an orderly way leaves its classes to all later ones."""
        was_running, began = self.is_running, time.monotonic()
        super().stop()
        # A JVM that was killed may have left half an archive.
        complete = was_running and time.monotonic() - began < _GRACE
        for draft in self.directory.glob("classes-*.jsa"):
            if complete and (folder := jars.cache_folder()).is_dir():
                beside = folder / f"{draft.name}.{os.getpid()}"
                shutil.move(draft, beside)
                beside.replace(folder / draft.name)
            else:
                draft.unlink()
