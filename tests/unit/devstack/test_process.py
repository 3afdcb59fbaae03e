import os
import subprocess
import sys
from dataclasses import replace

from devstack.process import ProcessId, last_lines, server_environment


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
