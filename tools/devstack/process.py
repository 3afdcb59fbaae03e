"""Servers as processes: started under a guard, found again by pid and start time, ended for certain."""

import json
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self

import psutil

from devstack.errors import ServiceFailedError

__all__ = ["GuardedServer", "ProcessId", "Spec", "last_lines", "server_environment"]

_GUARD = Path(__file__).with_name("guard.py")
_START_TIME_TOLERANCE = 2.0
_POLL_INTERVAL = 0.02


@dataclass(frozen=True)
class ProcessId:
    """A process that cannot be mistaken for a later one with the same number."""

    pid: int
    started: float
    """Seconds since the epoch, as the system reports it."""

    @classmethod
    def of(cls, pid: int) -> Self:
        """Return the identity of the living process `pid`; raises psutil.NoSuchProcess."""
        return cls(pid, psutil.Process(pid).create_time())

    def process(self) -> psutil.Process | None:
        """Return the process while it lives; None once it ended, be it reaped or not."""
        try:
            process = psutil.Process(self.pid)
            # The start is derived from the boot time, which moves when the clock is set right.
            if abs(process.create_time() - self.started) > _START_TIME_TOLERANCE:
                return None
            return None if process.status() == psutil.STATUS_ZOMBIE else process
        except psutil.NoSuchProcess:
            return None


@dataclass(frozen=True)
class Spec:
    """What the guard is told, as JSON. No secrets: arguments are visible to every user."""

    command: list[str]
    directory: str
    log: str
    owner: int | None
    """The process that the server must not outlive; None: it lives until it is ended."""
    prepare: list[list[str]] = field(default_factory=list)
    """Commands to run to their end before the server, as the same user."""
    environment: dict[str, str] = field(default_factory=dict)
    inherit: bool = False
    """Whether the server also gets the guard's own environment, the way for what must not be an argument."""
    user: str | None = None
    """The account to run as when the guard runs as root."""
    stop_signal: int = signal.SIGTERM
    grace: float = 10.0
    """Seconds between the stop signal and SIGKILL."""
    dispose: bool = False
    """Whether the guard removes `directory` when the owner dies without doing so."""


class GuardedServer:
    """A running server and its guard."""

    def __init__(self, guard: ProcessId, server: ProcessId, child: subprocess.Popen[bytes] | None = None) -> None:
        self.guard = guard
        self.server = server
        self._child = child

    @classmethod
    def launch(cls, spec: Spec, *, timeout: float, environment: dict[str, str] | None = None) -> Self:
        """
        Start a server; returns once it runs (which is not yet: once it answers).

        `environment` is the guard's own; without it the guard has ours.
        """
        child = subprocess.Popen(
            # Isolated and without site: neither the project's path nor its packages concern the guard.
            [sys.executable, "-I", "-S", str(_GUARD), json.dumps(asdict(spec))],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )
        with child.stdout as answers:  # type: ignore[union-attr]
            readable, _, _ = select.select([answers], [], [], timeout)
            line = answers.readline() if readable else b""
        answer = json.loads(line) if line else {"error": f"its guard said nothing within {timeout:g} s"}
        if "error" in answer:
            child.terminate()
            child.wait()
            raise ServiceFailedError(answer["error"])
        detached = spec.owner is None
        if detached:
            child.wait()
        try:
            guard, server = ProcessId.of(answer["guard"]), ProcessId.of(answer["server"])
        except psutil.NoSuchProcess as gone:
            child.wait()
            raise ServiceFailedError("it ended at once") from gone
        return cls(guard, server, None if detached else child)

    @property
    def is_own(self) -> bool:
        """Whether this process started the server, and the server ends with it."""
        return self._child is not None

    def is_running(self) -> bool:
        """Whether the server's process lives; it may be paused, or busy starting."""
        return self.server.process() is not None

    def signal(self, number: int) -> None:
        """Send a signal to the server and to every process it started."""
        server = self.server.process()
        if server is None:
            return
        with suppress(psutil.NoSuchProcess):
            for process in (server, *server.children(recursive=True)):
                _send(process, number)

    def pause(self, *, timeout: float) -> None:
        """
        Stop the server and every process it started where they are; returns once not one of their threads runs.

        Threads stop some time after the signal was sent, tens of milliseconds on a busy machine, and until then they
        answer. Raises ServiceFailedError when one still runs after `timeout` seconds.
        """
        self.signal(signal.SIGSTOP)
        deadline = time.monotonic() + timeout
        while not self._is_stopped():
            if time.monotonic() > deadline:
                raise ServiceFailedError(f"process {self.server.pid} was not paused within {timeout:g} s")
            time.sleep(_POLL_INTERVAL)

    def _is_stopped(self) -> bool:
        server = self.server.process()
        if server is None:
            return True
        with suppress(psutil.NoSuchProcess):
            return all(_has_stopped(process) for process in (server, *server.children(recursive=True)))
        return False

    def stop(self, *, timeout: float) -> None:
        """End the server in its own orderly way; after the spec's grace the guard kills it."""
        self.signal(signal.SIGCONT)
        if (guard := self.guard.process()) is not None:
            _send(guard, signal.SIGTERM)
        self._wait(timeout)

    def kill(self, *, timeout: float) -> None:
        """End the server as a crash would: SIGKILL, no farewell."""
        if (server := self.server.process()) is not None:
            _send(server, signal.SIGKILL)
        self._wait(timeout)

    def _wait(self, timeout: float) -> None:
        """Wait until the guard is gone, and with it every process of the server."""
        deadline = time.monotonic() + timeout
        while self.guard.process() is not None:
            if time.monotonic() > deadline:
                raise ServiceFailedError(
                    f"process {self.server.pid} did not end within {timeout:g} s; its guard is process {self.guard.pid}"
                )
            time.sleep(_POLL_INTERVAL)
        if self._child is not None:
            self._child.wait()
        # Without its guard (somebody killed that) the server may still be there.
        self.signal(signal.SIGKILL)


def _send(process: psutil.Process, number: int) -> None:
    # It may end between being found and being told.
    with suppress(psutil.NoSuchProcess):
        process.send_signal(number)


def _has_stopped(process: psutil.Process) -> bool:
    # The process's own status is that of its first thread. A zombie does nothing either.
    still = (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE)
    return all(psutil.Process(thread.id).status() in still for thread in process.threads())


def last_lines(path: Path, count: int = 15) -> str:
    """Return the end of a log, indented; says so when there is none."""
    if not path.exists() or not (text := path.read_text(errors="replace").strip()):
        return "    (the log is empty)"
    return "\n".join(f"    {line}" for line in text.splitlines()[-count:])


def server_environment(**extra: str) -> dict[str, str]:
    """Return the environment of a server: none of the shell's settings may change how it behaves."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR", "JAVA_HOME") if name in os.environ}
    return {**kept, "LANG": "C.UTF-8", "TZ": "UTC", **extra}
