"""The shop's processes: started under guards, with their secrets in the environment only."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import psutil

from devstack.process import GuardedServer, ProcessId, Spec, last_lines

ROOT = Path(__file__).resolve().parents[2]
QUEUES = "orders,inventory,fraud,payments,payouts,notifications,catalog,reports"

START_TIMEOUT = 60.0
"""Seconds for a process to say that it is ready."""


class DemoError(Exception):
    """The story cannot go on; the message says where to look."""


KEPT = ("PATH", "HOME", "TMPDIR", "TERM")
"""What the shop's processes get of the shell's own environment."""


def shop_environment(servers: Mapping[str, str], directory: Path) -> dict[str, str]:
    """Return the environment of the shop's processes: the servers, and secrets that nobody has used before."""
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    return {
        **kept,
        **servers,
        "LANG": "C.UTF-8",
        "PYTHONPATH": os.pathsep.join(str(ROOT / folder) for folder in ("apps", "bridge")),
        "PYTHONUNBUFFERED": "1",
        "C_FORCE_ROOT": "1",
        "DJANGO_SETTINGS_MODULE": "shop.config.settings",
        "TASKBRIDGE_APP": "shop.config.celery",
        "DJANGO_SECRET_KEY": secrets.token_urlsafe(50),
        "EMAIL_URL": f"file://{directory / 'mail'}",
        "SHOP_API_TOKENS": secrets.token_urlsafe(24),
        "SHOP_JOURNAL": "1",
        "SHOP_PLAIN_HTTP": "1",
        "SHOP_BRIDGE_TOKENS": str(api_tokens(directory)),
        # A demo does not last a day.
        "SHOP_QUIET_BEFORE_COMPLETE": "30",
        "SHOP_SERVE_STATIC": "1",
        "SHOP_PAYOUT_DELAY": "2",
        "SHOP_FOLLOW_UP_DELAY": "8",
    }


def api_tokens(directory: Path) -> Path:
    """Return a folder with a token of one client of the bridge's API, which is made when it is not there."""
    folder = directory / "api-tokens"
    folder.mkdir(mode=0o700, exist_ok=True)
    token = folder / "you"
    if not token.exists():
        token.touch(mode=0o600)
        token.write_text(secrets.token_urlsafe(32))
    return folder


class Part:
    """One process of the system, by name, with its log."""

    def __init__(self, name: str, server: GuardedServer, log: Path) -> None:
        self.name = name
        self.server = server
        self.log = log

    @property
    def pid(self) -> int:
        """The process itself, not its guard."""
        return self.server.server.pid

    def wait_until(self, text: str) -> None:
        """Return once `text` stands in the log; raise DemoError when the process ends first or takes too long."""
        deadline = time.monotonic() + START_TIMEOUT
        while text not in self.log.read_text(errors="replace"):
            if not self.server.is_running():
                raise DemoError(f"{self.name} ended before it was ready:\n{last_lines(self.log)}")
            if time.monotonic() > deadline:
                raise DemoError(f"{self.name} was not ready after {START_TIMEOUT:g} s:\n{last_lines(self.log)}")
            time.sleep(0.05)

    def executors(self) -> list[int]:
        """Return the process ids of a Kafka worker's executors: the children of its fork server."""
        with suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self.pid).children():
                if "multiprocessing.forkserver" in " ".join(child.cmdline()):
                    return [executor.pid for executor in child.children()]
        return []


class System:
    """
    Everything of the shop that runs beside its servers.

    With an `owner` (a process id) every process ends with it, however it ends; without one they live until `stop`.
    """

    def __init__(self, environment: Mapping[str, str], directory: Path, owner: int | None) -> None:
        self.environment = dict(environment)
        self.directory = directory
        self._owner = owner
        self.parts: dict[str, Part] = {}
        (directory / "mail").mkdir(parents=True, exist_ok=True)

    def start(self, name: str, *command: str) -> Part:
        """Start a Python module in the background under a name of its own."""
        log = self.directory / f"{name}.log"
        log.touch()
        spec = Spec(
            command=[sys.executable, "-m", *command],
            directory=str(ROOT),
            log=str(log),
            owner=self._owner,
            inherit=True,
            grace=30.0,
        )
        part = Part(name, GuardedServer.launch(spec, timeout=20.0, environment=self.environment), log)
        self.parts[name] = part
        return part

    def start_celery(self) -> Part:
        """Start the Celery worker that serves every queue."""
        options = ("-A", "shop.config.celery", "worker", "-Q", QUEUES, "-c", "2", "-l", "INFO")
        return self.start("celery", "celery", *options)

    def start_worker(self, service: str, role: str = "live", processes: int = 1) -> Part:
        """Start a Kafka worker of one service."""
        name = f"{service}-{role}"
        options = ("--service", service, "--role", role, "--processes", str(processes), "--loglevel", "WARNING")
        return self.start(name, "taskbridge.cli", "worker", *options)

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a Python module to its end; raise DemoError with what it said when it fails."""
        done = subprocess.run(
            [sys.executable, "-m", *command],
            env=self.environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        if check and done.returncode:
            raise DemoError(f"`{' '.join(command)}` ended with status {done.returncode}:\n{done.stdout}{done.stderr}")
        return done

    def manage(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a management command of the shop."""
        return self.run("django", *arguments, check=check)

    def stop(self) -> None:
        """End every process in its orderly way, the newest first."""
        for part in reversed(self.parts.values()):
            # Told all at once, they end side by side.
            with suppress(psutil.NoSuchProcess):
                if (guard := part.server.guard.process()) is not None:
                    guard.terminate()
        for part in self.parts.values():
            part.server.stop(timeout=60.0)
        self.parts.clear()


def adopted(pids: Mapping[str, tuple[ProcessId, ProcessId]], directory: Path) -> dict[str, Part]:
    """Return the parts of a system that another process started, by the (guard, server) it recorded."""
    return {
        name: Part(name, GuardedServer(guard, server), directory / f"{name}.log")
        for name, (guard, server) in pids.items()
    }
