"""
Run one server and see to it that it does not outlive its owner.

A program of its own that imports only the standard library, because it must start in milliseconds and
must live on when its owner is killed. Its one argument is JSON; see `Spec` in `devstack.process`.

A parent-death signal from owner to server would not do: it is tied to the owner's *thread*, it does not
reach the server's own children, and nobody could remove the data. So the guard is the owner's child and
watches for being orphaned, adopts whatever the server leaves behind, and asks the kernel to end the
server should the guard itself be killed.
"""

import contextlib
import ctypes
import fcntl
import json
import os
import pwd
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1
PR_SET_KEEPCAPS = 8
PR_SET_CHILD_SUBREAPER = 36
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
CAP_DAC_OVERRIDE = 1
CAPABILITY_VERSION_3 = 0x20080522

OWNER_CHECK_INTERVAL = 0.25
LINUX = sys.platform == "linux"
LIBC = ctypes.CDLL(None, use_errno=True)


class Guard:
    """The life of one server, from its preparation to the last of its processes."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.spec = spec
        self.started: list[subprocess.Popen[bytes]] = []
        self.stopping = False
        self.orphaned = False
        self.stack = os.open(Path(spec["directory"]).parent, os.O_RDONLY)
        fcntl.flock(self.stack, fcntl.LOCK_SH)
        self.wakeup, wake = os.pipe()
        for end in (self.wakeup, wake):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._stop)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        if LINUX:
            LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    def _stop(self, *_: object) -> None:
        self.stopping = True

    def run(self) -> int:
        """Prepare, serve, clean up; return the status of whatever ended first."""
        log = os.open(self.spec["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for command in self.spec["prepare"]:
            status = self._supervise(self._spawn(command, log))
            if status or self.stopping:
                self._tell({"error": f"{Path(command[0]).name} ended with status {status}"})
                self._finish()
                return status or 1
        server = self._spawn(self.spec["command"], log)
        self._tell({"guard": os.getpid(), "server": server})
        os.dup2(log, sys.stderr.fileno())
        status = self._supervise(server)
        self._finish()
        return status

    def _spawn(self, command: list[str], log: int) -> int:
        become = prepare_child(self.spec["user"], os.getpid())
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=self.spec["directory"],
            env=(os.environ | self.spec["environment"]) if self.spec["inherit"] else self.spec["environment"],
            start_new_session=True,
            preexec_fn=become,  # noqa: PLW1509 - this process has one thread
        )
        # Kept, because a Popen that is collected reaps a child that has already ended: its status,
        # and the news that it ended, would never reach `_reap`.
        self.started.append(child)
        return child.pid

    def _tell(self, answer: dict[str, Any]) -> None:
        # Closing the pipe tells the owner that no more comes; and a shell pipeline around `up` must end.
        try:
            os.write(sys.stdout.fileno(), json.dumps(answer).encode() + b"\n")
        except BrokenPipeError:
            self.stopping = True  # nobody knows of this server
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)

    def _supervise(self, main: int) -> int:
        """Wait for the process `main`, ending it when asked to or orphaned; return its status."""
        kill_at: float | None = None
        while True:
            status = self._reap(main)
            if status is not None:
                return status
            self.orphaned = self.orphaned or self._owner_is_gone()
            if self.orphaned and self.spec["dispose"]:
                os.kill(main, signal.SIGKILL)
            elif (self.orphaned or self.stopping) and kill_at is None:
                os.kill(main, self.spec["stop_signal"])
                kill_at = time.monotonic() + self.spec["grace"]
            elif kill_at is not None and time.monotonic() > kill_at:
                os.kill(main, signal.SIGKILL)
            select.select([self.wakeup], [], [], OWNER_CHECK_INTERVAL)
            with contextlib.suppress(BlockingIOError):
                os.read(self.wakeup, 4096)

    def _reap(self, main: int) -> int | None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return None
            if pid == main:
                return os.waitstatus_to_exitcode(status)
            if pid == 0:
                return None

    def _owner_is_gone(self) -> bool:
        owner = self.spec["owner"]
        return owner is not None and os.getppid() != owner

    def _finish(self) -> None:
        """End what the server left running and, when nobody else will, remove its data."""
        while children := own_children():
            for child in children:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(-1, 0)
        if self.orphaned and self.spec["dispose"]:
            self._remove_data()

    def _remove_data(self) -> None:
        directory = Path(self.spec["directory"])
        shutil.rmtree(directory, ignore_errors=True)
        # Every guard of the stack holds the shared lock; whoever is last can have it alone.
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(self.stack, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(directory.parent, ignore_errors=True)


def own_children() -> list[int]:
    """Return the pids of this process's living or unreaped children (none where there is no /proc)."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The command's name stands in parentheses and may hold spaces.
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == os.getpid():
            found.append(int(entry.parent.name))
    return found


def prepare_child(user: str | None, guard: int) -> Callable[[], None]:
    """Return what the child does between fork and exec: become `user`, and never outlive the guard."""
    account = pwd.getpwnam(user) if user else None

    def become() -> None:
        if account is not None:
            LIBC.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0)
            os.setgroups([])
            os.setgid(account.pw_gid)
            os.setuid(account.pw_uid)
            keep_file_access()
        if LINUX:
            # Last: changing the user clears it.
            LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() != guard:
                os._exit(1)

    return become


def keep_file_access() -> None:
    """
    Keep root's way through directories after leaving root's identity, where the system allows it.

    PostgreSQL refuses to run as root, but a checkout under /root is closed to every other user. Opening
    it to all of them, or copying the server elsewhere, would be the alternatives.
    """
    if not LINUX:
        return
    bit = 1 << CAP_DAC_OVERRIDE
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    data = (ctypes.c_uint32 * 6)(bit, bit, bit, 0, 0, 0)
    if LIBC.capset(header, data) == 0:
        LIBC.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_DAC_OVERRIDE, 0, 0)


def main() -> int:
    """Run the guard described by the first argument."""
    spec = json.loads(sys.argv[1])
    if spec["owner"] is None and os.fork():
        return 0
    return Guard(spec).run()


if __name__ == "__main__":
    # Not sys.exit: the interpreter's end has nothing to add, and the status may be negative.
    os._exit(abs(main()) & 0xFF)
