"""One server: started until it answers, stopped, killed, paused, and started again where it was."""

import signal
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from devstack.errors import DevstackError, NotReadyError, ServiceFailedError
from devstack.ports import free_port, is_free
from devstack.probes import PROBES
from devstack.process import GuardedServer, ProcessId, Spec, last_lines
from devstack.state import ServiceState

__all__ = ["Service"]

_POLL_INTERVAL = 0.05
_PORT_ATTEMPTS = 3
_PORT_TAKEN = ("address already in use", "could not bind", "failed to bind")


class Service(ABC):
    """A server of the stack. Not safe for use by two threads at once."""

    name: ClassVar[str]
    port_names: ClassVar[tuple[str, ...]] = ("client",)
    url_variable: ClassVar[str]
    """The environment variable that tells an application where this service is."""
    start_timeout: ClassVar[float] = 60.0
    stop_timeout: ClassVar[float] = 15.0

    def __init__(
        self,
        directory: Path,
        *,
        owner: int | None,
        dispose: bool,
        report: Callable[[str], None],
        state: ServiceState | None = None,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self.directory = directory
        self.state = state or ServiceState()
        self._owner = owner
        self._dispose = dispose
        self._report = report
        self._changed = changed
        self._cancelled = threading.Event()
        self._process: GuardedServer | None = None
        if self.state.guard and self.state.server:
            self._process = GuardedServer(self.state.guard, self.state.server)

    @property
    @abstractmethod
    def url(self) -> str:
        """Where clients find the service, password included."""

    @abstractmethod
    def configure(self) -> Spec:
        """Write the server's files for the present ports and return how to run it."""

    @property
    def environment(self) -> dict[str, str]:
        """What an application needs in its environment to use the service."""
        return {self.url_variable: self.url}

    @property
    def port(self) -> int:
        """The TCP port for clients, on the loopback interface; the same after every restart."""
        return self.state.ports["client"]

    @property
    def log_path(self) -> Path:
        """The file with all that the server says."""
        return self.directory / f"{self.name}.log"

    @property
    def pid(self) -> int:
        """The server's main process; raises DevstackError when the service is not running."""
        if not self.is_running or self._process is None:
            raise DevstackError(f"{self.name} is not running: call start().")
        return self._process.server.pid

    @property
    def is_running(self) -> bool:
        """Whether the server's process lives; a paused one does."""
        return self._process is not None and self._process.is_running()

    @property
    def is_adopted(self) -> bool:
        """Whether the running server was started by another process."""
        return self._process is not None and not self._process.is_own

    def probe(self) -> None:
        """Ask the server once whether it is ready; raises NotReadyError."""
        PROBES[self.name](self.url)

    def start(self) -> None:
        """
        Start the server and return when it answers; does nothing when it runs.

        The first start chooses ports; later ones use the same ports and data. Raises ServiceFailedError,
        MissingToolError.
        """
        if self.is_running:
            return
        self.stop()  # it may have ended by itself, with its guard still clearing up
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        # A service that has never run may go elsewhere when another process is quicker to take a port.
        attempts = 1 if self.state.ports else _PORT_ATTEMPTS
        if attempts == 1 and not all(map(is_free, self.state.ports.values())):
            taken = ", ".join(str(port) for port in self.state.ports.values() if not is_free(port))
            raise ServiceFailedError(
                f"{self.name} cannot start: port {taken} was taken by another process while it was down. "
                "End that process."
            )
        for attempt in range(attempts):
            if attempts > 1:
                self._choose_ports()
            said_before = self.log_path.stat().st_size if self.log_path.exists() else 0
            try:
                self._start_once()
            except ServiceFailedError:
                if attempt + 1 == attempts or not self._port_was_taken(said_before):
                    raise
            else:
                return

    def _choose_ports(self) -> None:
        ports: dict[str, int] = {}
        for name in self.port_names:
            ports[name] = free_port(frozenset(ports.values()))
        self.state.ports = ports

    def _port_was_taken(self, said_before: int) -> bool:
        with self.log_path.open("rb") as log:
            log.seek(said_before)
            said = log.read().decode(errors="replace").lower()
        return any(words in said for words in _PORT_TAKEN)

    def _start_once(self) -> None:
        deadline = time.monotonic() + self.start_timeout
        spec = self.configure()
        self._changed()  # a password that was chosen must not be lost if this process ends here
        try:
            self._process = GuardedServer.launch(spec, timeout=self.start_timeout)
        except ServiceFailedError as failed:
            raise self._failure(f"did not start: {failed}") from failed
        self._record(self._process.guard, self._process.server)
        reason: NotReadyError | None = None
        while time.monotonic() < deadline:
            if self._cancelled.is_set():
                raise ServiceFailedError(f"{self.name} was told to stop while it started.")
            if not self._process.is_running():
                self._process.stop(timeout=self.stop_timeout)
                raise self._failure("ended while it started")
            try:
                self.probe()
            except NotReadyError as not_ready:
                reason = not_ready
                time.sleep(_POLL_INTERVAL)
            else:
                return
        failure = self._failure(f"did not answer within {self.start_timeout:g} s ({reason})")
        self.stop()
        raise failure

    def _failure(self, what: str) -> ServiceFailedError:
        return ServiceFailedError(
            f"{self.name} {what}. The log, {self.log_path}, ends with:\n{last_lines(self.log_path)}"
        )

    def _record(self, guard: ProcessId | None, server: ProcessId | None) -> None:
        self.state.guard, self.state.server = guard, server
        self._changed()

    def cancel(self) -> None:
        """Make a start() that is under way in another thread give up."""
        self._cancelled.set()

    def stop(self) -> None:
        """End the server in an orderly way, keeping its data; does nothing when it is down."""
        if self._process is not None:
            self._process.stop(timeout=self.stop_timeout)
        self._forget()

    def kill(self) -> None:
        """End the server with SIGKILL, as a crash would, keeping its data."""
        if self._process is not None:
            self._process.kill(timeout=self.stop_timeout)
        self._forget()

    def _forget(self) -> None:
        self._process = None
        self._record(None, None)

    def pause(self) -> None:
        """Stop the server's processes where they are: connections stay open and nothing answers from now on."""
        if self._process is not None:
            self._process.pause(timeout=self.stop_timeout)

    def resume(self) -> None:
        """Let a paused server go on."""
        if self._process is not None:
            self._process.signal(signal.SIGCONT)
