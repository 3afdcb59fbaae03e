"""The stack: several services that start together and leave nothing behind."""

import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from devstack import state
from devstack.errors import DevstackError
from devstack.kafka import Kafka
from devstack.postgres import Postgres
from devstack.redis_server import Redis
from devstack.service import Service

__all__ = ["SERVICES", "Stack"]

SERVICES: dict[str, type[Service]] = {kind.name: kind for kind in (Postgres, Redis, Kafka)}


def _to_stderr(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


class Stack:
    """
    Local services for as long as a `with` block lasts.

    Without `state_dir` their data lives in a temporary folder that goes with them; with it, ports,
    passwords and data are kept there for the next time. The services end with the process that made the
    stack, however it ends, unless they are `detached`: then they run until a stack on the same
    `state_dir` is stopped.
    """

    def __init__(
        self,
        services: Iterable[str] = tuple(SERVICES),
        state_dir: Path | None = None,
        *,
        detached: bool = False,
        report: Callable[[str], None] = _to_stderr,
    ) -> None:
        names = tuple(services)
        if unknown := [name for name in names if name not in SERVICES]:
            raise DevstackError(f"There is no service {unknown[0]!r}: choose from {', '.join(SERVICES)}.")
        if detached and state_dir is None:
            raise DevstackError("A detached stack needs a state_dir, or nobody could find it again.")
        self._temporary = state_dir is None
        if state_dir is None:
            state_dir = Path(tempfile.mkdtemp(prefix="devstack-"))
        # Servers start elsewhere, and keep the path for as long as they run.
        self.state_dir = state_dir.resolve()
        self._detached = detached
        self._report = report
        self._names = names
        self._writing = threading.Lock()
        self._known: dict[str, state.ServiceState] = {}
        self.services: dict[str, Service] = {}
        self._load()

    def _load(self) -> None:
        self._known = state.read(self.state_dir)
        for name in self._names:
            known = self._known.setdefault(name, state.ServiceState())
            self.services[name] = SERVICES[name](
                self.state_dir / name,
                owner=None if self._detached else os.getpid(),
                dispose=self._temporary,
                report=self._report,
                state=known,
                changed=self._write,
            )

    def _write(self) -> None:
        # Services start, and are recorded, in parallel.
        with self._writing:
            state.write(self.state_dir, self._known)

    def __getitem__(self, name: str) -> Service:
        """Return a service of the stack by its name."""
        return self.services[name]

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which applications find the services that have been started."""
        started = (service for service in self.services.values() if service.state.ports)
        return {name: value for service in started for name, value in service.environment.items()}

    def start(self, *names: str) -> None:
        """
        Start the named services (all of them by default) in parallel; return when every one answers.

        If one fails, those that this call started are stopped again. Raises what the failed one raised.
        """
        chosen = [self.services[name] for name in names or self.services]
        with state.lock(self.state_dir):
            waiting = [service for service in chosen if not service.is_running]
            if not self._detached and not self._temporary:
                self._refuse_to_adopt(chosen)
            for service in waiting:
                self._tell_if_stale(service)
            self._start(waiting)

    def _refuse_to_adopt(self, chosen: list[Service]) -> None:
        for service in chosen:
            if service.is_adopted and service.is_running:
                raise DevstackError(
                    f"A stack is already running from {self.state_dir} ({service.name} is process {service.pid}): "
                    f"end it with `python -m devstack down --state-dir {self.state_dir}`."
                )

    def _tell_if_stale(self, service: Service) -> None:
        if (gone := service.state.server) is not None:
            self._report(f"{service.name} should be running but its process {gone.pid} is gone: starting it again.")

    def _start(self, waiting: list[Service]) -> None:
        if not waiting:
            return
        with ThreadPoolExecutor(len(waiting), thread_name_prefix="devstack") as pool:
            starting: list[Future[None]] = [pool.submit(service.start) for service in waiting]
            try:
                for outcome in starting:
                    outcome.result()
            except BaseException:
                # Ctrl-C among them: whatever it is, nothing half started may stay.
                for service in waiting:
                    service.cancel()
                pool.shutdown(wait=True)
                for service in waiting:
                    service.stop()
                raise

    def stop(self) -> None:
        """Stop all services; with a temporary folder, remove it."""
        if self.state_dir.exists():
            with state.lock(self.state_dir), ThreadPoolExecutor(len(self.services) or 1) as pool:
                # Each is ended, even when another one resists.
                for outcome in [pool.submit(service.stop) for service in self.services.values()]:
                    outcome.result()
        if self._temporary:
            shutil.rmtree(self.state_dir, ignore_errors=True)

    def __enter__(self) -> Self:
        """Start all services."""
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop all services."""
        self.stop()
