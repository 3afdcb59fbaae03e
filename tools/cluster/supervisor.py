"""Keeps programs running, as the init process of a namespace does."""

import os
import re
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from cluster.errors import ClusterError, ComponentEnded

__all__ = ["Supervisor", "last_error", "wait_until"]

_RESTART_DELAY = 1.0
_POLL = 0.1
_TAIL = 12
_ATTEMPTS = 3
_ERROR = re.compile(r"[EF]\d{4} |level=(error|fatal)|\b(error|panic|fatal|failed|cannot)\b", re.IGNORECASE)
"""What a line of a log looks like that says what went wrong; the first one is how Kubernetes' programs begin it."""


def wait_until(check: Callable[[], bool], what: str, timeout: float, alive: Callable[[], None] | None = None) -> None:
    """Return once `check` is true; `alive` may raise meanwhile. Raises ClusterError after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not check():
        if alive is not None:
            alive()
        if time.monotonic() > deadline:
            raise ClusterError(f"{what} within {timeout:g} s.")
        time.sleep(_POLL)


def last_error(log: Path) -> str:
    """Return the last line of a log that says what went wrong, or its last line, or that it is empty."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return next((line for line in reversed(lines) if _ERROR.search(line)), lines[-1] if lines else "nothing")


class Supervisor:
    """Starts programs; every one has a log of its own in `logs`."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._commands: dict[str, tuple[Sequence[str], dict[str, str] | None]] = {}
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._once: set[str] = set()

    def start(
        self, name: str, command: Sequence[str], environment: dict[str, str] | None = None, *, once: bool = False
    ) -> int:
        """
        Start the program and return its process number, as seen from here.

        With `once` it cannot be started again when it ends.
        """
        self._commands[name] = command, environment
        if once:
            self._once.add(name)
        with self.log(name).open("ab") as log:
            child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
        self._children[name] = child
        return child.pid

    def log(self, name: str) -> Path:
        """Return where the program writes what it has to say."""
        return self._logs / f"{name}.log"

    def check(self) -> None:
        """Raise ComponentEnded if any program has."""
        for name, child in self._children.items():
            if (status := child.poll()) is not None:
                lines = self.log(name).read_text(errors="replace").splitlines()[-_TAIL:]
                end = "\n".join(f"    {line}" for line in lines)
                raise ComponentEnded(f"{name} ended with status {status}. The end of {self.log(name)}:\n{end}")

    def wait_until(self, check: Callable[[], bool], what: str, timeout: float) -> None:
        """Return once `check` is true; raises ComponentEnded when a program ends, ClusterError when it is late."""
        wait_until(check, what, timeout, self.check)

    def keep(self, settled: Callable[[], bool] = lambda: True) -> NoReturn:
        """
        Start again what ends, name what cannot be, and reap what others left, for ever.

        Raises ComponentEnded when a program has ended three times and `settled` is not true yet: it never ran.
        """
        endings: Counter[str] = Counter()
        while True:
            pid, status = os.waitpid(-1, 0)
            for name, child in self._children.items():
                if child.pid == pid:
                    child.returncode = os.waitstatus_to_exitcode(status)
                    if name in self._once:
                        again = "it cannot be started again: `down` and `up` the cluster"
                        print(f"{name} ended with status {child.returncode}; {again}", flush=True)  # noqa: T201
                        break
                    endings[name] += 1
                    if endings[name] >= _ATTEMPTS and not settled():
                        raise ComponentEnded(
                            f"{name} keeps ending, with status {child.returncode}. "
                            f"Its log {self.log(name)} says: {last_error(self.log(name))}"
                        )
                    print(f"{name} ended with status {child.returncode}; starting it again", flush=True)  # noqa: T201
                    time.sleep(_RESTART_DELAY)
                    self.start(name, *self._commands[name])
                    break
