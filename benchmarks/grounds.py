"""The servers and processes of one run: started for it, and gone after it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import click

from devstack import DevstackError, Stack

ROOT = Path(__file__).resolve().parent.parent
POLL = 0.005
"""Seconds between looks at a condition, and so the error of a duration."""


class BenchmarkFailedError(click.ClickException):
    """A benchmark that could not be carried out; its figures would mean nothing."""

    exit_code = 1


class Grounds:
    """Servers, their environment, and a folder; use `grounds()` to get one."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        self.stack = stack
        self.folder = folder
        self.is_kafka_paused = False
        known = {name: value for name, value in os.environ.items() if not name.startswith("TASKBRIDGE_")}
        self.environment = {
            **known,
            **stack.environment,
            "DJANGO_SETTINGS_MODULE": "benchmarks.project.settings",
            "TASKBRIDGE_APP": "benchmarks.project.bridged",
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "bridge"), os.environ.get("PYTHONPATH", "")]),
            # Celery's warning about the superuser concerns the person at the keyboard only.
            "C_FORCE_ROOT": "1",
        }

    def run(self, *command: str) -> None:
        """Run a module to its end; raise BenchmarkFailedError with its output when it fails."""
        done = subprocess.run(
            [sys.executable, "-m", *command], env=self.environment, cwd=self.folder, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        if done.returncode:
            raise BenchmarkFailedError(
                f"`python -m {' '.join(command)}` ended with status {done.returncode}:\n{done.stdout}{done.stderr}"
            )

    def move(self, service: str, *stages: str) -> None:
        """Move a service through stages, each as `taskbridge cutover` takes it."""
        for stage in stages:
            self.run("taskbridge.cli", "cutover", service, *stage.split(), "--override", "--reason", "benchmark")

    @contextmanager
    def kafka_paused(self) -> Iterator[None]:
        """Make Kafka a black hole for a while: connections stay open and nothing answers."""
        self.is_kafka_paused = True
        self.stack["kafka"].pause()
        try:
            yield
        finally:
            self.stack["kafka"].resume()
            self.is_kafka_paused = False

    @contextmanager
    def started(self, commands: Sequence[Sequence[str]], extra: Mapping[str, str]) -> Iterator[list[Process]]:
        """Yield modules as running processes; end them afterwards, whatever happens."""
        processes: list[Process] = []
        try:
            for command in commands:
                log = self.folder / f"{command[0]}-{time.monotonic_ns()}.log"
                processes.append(Process(command, self.environment | extra, self.folder, log))
            yield processes
        finally:
            for process in processes:
                process.end()


class Process:
    """A module that runs in the background."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], folder: Path, log: Path) -> None:
        self.log = log
        self.command = command
        with log.open("wb") as sink:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *command], env=environment, cwd=folder, stdout=sink, stderr=sink,
                start_new_session=True,
            )  # fmt: skip

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def check(self) -> None:
        """Raise BenchmarkFailedError if it has ended."""
        if (status := self._process.poll()) is not None:
            said = self.log.read_text(errors="replace")[-2000:]
            raise BenchmarkFailedError(f"`{' '.join(self.command)}` ended with status {status}:\n{said}")

    def end(self, timeout: float = 30.0) -> int:
        """Ask it to end, insisting after `timeout` seconds; return its exit status."""
        if self._process.poll() is None:
            self._process.terminate()
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


@contextmanager
def grounds() -> Iterator[Grounds]:
    """Yield fresh servers with the bridge's tables; raise BenchmarkFailedError when they cannot be started."""
    try:
        with tempfile.TemporaryDirectory(prefix="benchmark-") as folder, Stack() as stack:
            one = Grounds(stack, Path(folder))
            one.run("django", "migrate", "--verbosity", "0")
            yield one
    except DevstackError as error:
        raise BenchmarkFailedError(str(error)) from error


def wait_for(condition: Callable[[], bool], what: str, timeout: float, check: Callable[[], None]) -> None:
    """
    Return once the condition holds.

    Raises BenchmarkFailedError, saying `what` did not come, after `timeout` seconds; `check` is called at every look.
    """
    deadline = time.monotonic() + timeout
    while not condition():
        check()
        if time.monotonic() > deadline:
            raise BenchmarkFailedError(f"{what} did not come within {timeout:g} s")
        time.sleep(POLL)


_TICK = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """Return the processor time that all threads of a process have used so far, to a hundredth of a second."""
    # The name, in parentheses, may hold anything.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK
