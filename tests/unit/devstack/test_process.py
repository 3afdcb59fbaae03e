import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import psutil
import pytest

from devstack.errors import ServiceFailedError
from devstack.process import GuardedServer, ProcessId, last_lines, server_environment

MANY_THREADS = """
import threading, time

def busy():
    while True:
        time.sleep(0.001)

for _ in range(60):
    threading.Thread(target=busy, daemon=True).start()
print("started", flush=True)
input()
"""


@pytest.fixture
def server() -> Iterator[GuardedServer]:
    """A server of sixty busy threads, whose guard is this process."""
    command = [sys.executable, "-c", MANY_THREADS]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        child.stdout.readline()
        yield GuardedServer(ProcessId.of(os.getpid()), ProcessId.of(child.pid))
        child.kill()


def test_a_living_process_is_found():
    assert ProcessId.of(os.getpid()).process().pid == os.getpid()


def test_a_later_process_with_the_same_number_is_not_taken_for_the_earlier_one():
    earlier = replace(ProcessId.of(os.getpid()), started=ProcessId.of(os.getpid()).started - 60)

    assert earlier.process() is None


def test_an_ended_process_is_gone_before_and_after_it_is_reaped():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    identity = ProcessId.of(child.pid)
    child.stdin.close()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)

    assert identity.process() is None
    child.wait()
    assert identity.process() is None


def test_last_lines_shows_the_end_of_a_log(tmp_path):
    log = tmp_path / "log"
    log.write_text("one\ntwo\nthree\n")

    assert last_lines(log, 2) == "    two\n    three"


def test_last_lines_of_a_log_that_says_nothing(tmp_path):
    assert "empty" in last_lines(tmp_path / "missing")


def test_a_server_sees_none_of_the_shells_settings(monkeypatch):
    monkeypatch.setenv("PGPORT", "1")
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", "-Xmx1m")
    monkeypatch.setenv("JAVA_HOME", "/opt/java")

    environment = server_environment()

    assert environment["JAVA_HOME"] == "/opt/java"
    assert not {"PGPORT", "JAVA_TOOL_OPTIONS"} & environment.keys()


def test_a_paused_server_runs_in_none_of_its_threads(server):
    threads = [psutil.Process(thread.id) for thread in server.server.process().threads()]
    assert len(threads) == 61

    for _ in range(20):
        server.pause(timeout=60)
        running = [thread.pid for thread in threads if thread.status() != psutil.STATUS_STOPPED]
        server.signal(signal.SIGCONT)

        assert running == []


def test_a_server_that_cannot_be_paused_is_named(server, monkeypatch):
    monkeypatch.setattr(server, "signal", lambda _: None)

    with pytest.raises(ServiceFailedError, match=f"process {server.server.pid} was not paused within 0.1 s"):
        server.pause(timeout=0.1)


def test_a_server_that_ended_is_not_waited_for(server):
    server.signal(signal.SIGKILL)
    os.waitid(os.P_PID, server.server.pid, os.WEXITED | os.WNOWAIT)

    server.pause(timeout=60)
    assert not server.is_running()
