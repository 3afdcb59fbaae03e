"""Runs the small project of `bridged` as its owners would: processes started from the command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, cast

import redis

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [ROOT / "tests" / "project", ROOT / "bridge"]


def wait_for(condition: Callable[[], Any], what: str, timeout: float = 90.0, interval: float = 0.05) -> Any:
    """Return the first true value of `condition`; fail, saying `what` did not come true, after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(interval)
    raise AssertionError(f"{what} did not come true within {timeout:g} s")


class Started:
    """One process of the project, and its output."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self.name = name
        self.process = process
        self.log = log

    def output(self) -> str:
        """Return everything that the process has written so far."""
        return self.log.read_text(errors="replace")

    def wait_for_output(self, text: str, timeout: float = 90.0) -> None:
        """Return once `text` stands in the output; fail when the process ends before."""

        def seen() -> bool:
            if text in self.output():
                return True
            assert self.process.poll() is None, f"{self.name} ended:\n{self.output()}"
            return False

        wait_for(seen, f"{text!r} in the output of {self.name}", timeout)

    def executors(self) -> list[int]:
        """Return the process ids of a worker's executors, which are the fork server's children."""
        return [
            executor
            for child in _children(self.process.pid)
            if b"multiprocessing.forkserver" in Path(f"/proc/{child}/cmdline").read_bytes()
            for executor in _children(child)
        ]

    def terminate(self, timeout: float = 90.0) -> int:
        """Ask the process to end; return its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout)

    def kill(self) -> None:
        """End the process at once."""
        self.process.kill()
        self.process.wait()


class Console(Started):
    """A process of the project that evaluates expressions; see `bridged.console`."""

    def ask(self, expression: str) -> Any:
        """Return the value of an expression; fail with the error that it raised."""
        answer = self.answer(expression)
        assert "error" not in answer, f"{expression}: {answer['error']}\n{self.output()}"
        return answer["value"]

    def error(self, expression: str) -> str:
        """Return the error, type and sentence, that an expression raises; fail when it raises none."""
        answer = self.answer(expression)
        assert "error" in answer, f"{expression} was to fail, and is {answer['value']!r}"
        return str(answer["error"])

    def answer(self, expression: str) -> dict[str, Any]:
        """Return `{"value": …}` or `{"error": …}`."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(expression).encode() + b"\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, f"the console ended:\n{self.output()}"
        return cast("dict[str, Any]", json.loads(line))

    def dispatch(self, task: str, count: int, *args: Any, **options: Any) -> dict[str, float]:
        """Dispatch a task `count` times; return how many seconds each id's dispatch took."""
        return dict(self.ask(f"dispatch({task!r}, {count}, *{args!r}, **{options!r})"))

    def counters(self) -> Counter[str]:
        """Return what its dispatcher has counted."""
        return Counter(self.ask("counters()"))


def _children(pid: int) -> list[int]:
    return [int(child) for task in Path(f"/proc/{pid}/task").glob("*/children") for child in task.read_text().split()]


class Project:
    """The project with its servers; one for a test module, under a prefix of its own."""

    def __init__(self, directory: Path, prefix: str, servers: Mapping[str, str], **settings: str) -> None:
        self.prefix = prefix
        self.directory = directory
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("TASKBRIDGE_", "BRIDGED_"))},
            **servers,
            **settings,
            "BRIDGED_PREFIX": prefix,
            "DJANGO_SETTINGS_MODULE": "bridged.settings",
            "TASKBRIDGE_APP": "bridged.celery",
            "PYTHONPATH": os.pathsep.join(map(str, SOURCES)),
            "PYTHONWARNINGS": "default",
            # Warnings of Celery about running as root concern the person at the keyboard only.
            "C_FORCE_ROOT": "1",
        }
        self._started: list[Started] = []

    def run(self, *command: str, check: bool = True, timeout: float = 240.0) -> subprocess.CompletedProcess[str]:
        """Run a module (`bridged.cases`, `taskbridge.cli status`) to its end."""
        done = subprocess.run(
            [sys.executable, "-m", *command],
            env=self.environment,
            cwd=self.directory,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert not check or done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        return done

    def cli(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run `taskbridge` with the arguments."""
        return self.run("taskbridge.cli", *arguments, check=check)

    def stand(self, service: str, stage: str, basis_points: int = 0) -> None:
        """Put a service's flag somewhere and make its topics: for tests of what holds there, not of the way there."""
        self.cli("topics", service)
        self.script(
            "import django\ndjango.setup()\n"
            "from django.db import connection\nfrom django.utils.timezone import now\n"
            "from taskbridge.contrib.django.models import ServiceFlag\n"
            "with connection.cursor() as cursor:\n"
            "    cursor.execute(\"SELECT nextval(pg_get_serial_sequence('taskbridge_transition', 'id'))\")\n"
            "    version = cursor.fetchone()[0]\n"
            "ServiceFlag.objects.update_or_create(\n"
            f"    service={service!r},\n"
            f"    defaults=dict(stage={stage!r}, basis_points={basis_points}, epoch=version, version=version,"
            " changed_at=now()),\n"
            ")\n"
        )

    def script(self, code: str, timeout: float = 240.0) -> Any:
        """Run code in the project, with `app`, `tasks` and `journal` at hand; return what it prints, as JSON."""
        head = "import json\nfrom bridged.celery import app\nfrom bridged import tasks, journal\n"
        done = subprocess.run(
            [sys.executable, "-c", head + code],
            env=self.environment,
            cwd=self.directory,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert done.returncode == 0, f"script ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        return json.loads(done.stdout) if done.stdout.strip() else None

    def journal(self) -> list[dict[str, Any]]:
        """Return every line that the project's processes have written about their tasks, in order."""
        with closing(redis.Redis.from_url(self.environment["REDIS_URL"], decode_responses=True)) as client:
            lines = cast("list[str]", client.lrange(f"{self.prefix}:journal", 0, -1))
        return [json.loads(line) for line in lines]

    def start(self, name: str, *command: str, ready: str | None = None) -> Started:
        """Start a module in the background and wait until `ready` stands in its output."""
        log = self.directory / f"{name}-{len(self._started)}.log"
        with log.open("wb") as sink:
            process = subprocess.Popen(
                [sys.executable, "-m", *command],
                env=self.environment,
                cwd=self.directory,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        started = Started(name, process, log)
        self._started.append(started)
        if ready is not None:
            started.wait_for_output(ready)
        return started

    def console(self) -> Console:
        """Start a process that dispatches and looks as it is told."""
        log = self.directory / f"console-{len(self._started)}.log"
        with log.open("wb") as sink:
            process = subprocess.Popen(
                [sys.executable, "-m", "bridged.console"],
                env=self.environment,
                cwd=self.directory,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=sink,
                start_new_session=True,
            )
        console = Console("console", process, log)
        self._started.append(console)
        return console

    def celery_worker(self, *arguments: str, concurrency: int = 2) -> Started:
        """Start a Celery worker, for the project's queue unless the arguments name others."""
        options = ("-A", "bridged.celery", "worker", "-c", str(concurrency), "-l", "INFO", *arguments)
        return self.start("celery", "celery", *options, ready=" ready.")

    def kafka_worker(self, *arguments: str, processes: int = 2, service: str = "work") -> Started:
        """Start our worker for a service."""
        options = ("worker", "--service", service, "--processes", str(processes), "--loglevel", "INFO", *arguments)
        return self.start("worker", "taskbridge.cli", *options, ready="worker ready")

    def relay(self) -> Started:
        """Start the relay."""
        return self.start("relay", "taskbridge.cli", "relay")

    def stop(self) -> None:
        """End whatever still runs, in reverse order."""
        for started in reversed(self._started):
            if started.process.poll() is None:
                try:
                    started.terminate(10.0)
                except subprocess.TimeoutExpired:
                    started.kill()
            for stream in (started.process.stdin, started.process.stdout):
                if stream is not None:
                    stream.close()
        self._started.clear()


@contextmanager
def project(directory: Path, prefix: str, servers: Mapping[str, str], **settings: str) -> Iterator[Project]:
    """Yield the project on a fresh database, migrated, with nothing running; end everything afterwards."""
    one = Project(directory, prefix, servers, **settings)
    try:
        one.run("django", "migrate", "--verbosity", "0")
        yield one
    finally:
        one.stop()
