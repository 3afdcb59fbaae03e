"""`python -m devstack` as a person uses it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import redis

pytestmark = pytest.mark.services

Run = Callable[..., subprocess.CompletedProcess]


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "devstack", *arguments]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "COLUMNS": "80"}


@pytest.fixture
def devstack(tmp_path) -> Iterator[Run]:
    """Return a function that runs a command in an empty project; whatever it started is ended."""
    (tmp_path / "pyproject.toml").touch()

    def run(*arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            command(*arguments),
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    yield run
    run("down", "--wipe")


def exports(text: str) -> dict[str, str]:
    return dict(line.removeprefix("export ").split("=", 1) for line in text.splitlines())


def test_round_trip_with_all_services(devstack, tmp_path):
    up = devstack("up")
    assert up.returncode == 0, up.stderr
    assert "Started postgres, redis, kafka" in up.stdout

    status = devstack("status", "--json")
    answer = json.loads(status.stdout)
    assert status.returncode == 0
    assert answer["ready"] is True
    assert answer["state_dir"] == str(tmp_path / "var" / "devstack")
    assert {name: row["status"] for name, row in answer["services"].items()} == dict.fromkeys(
        ["postgres", "redis", "kafka"], "ready"
    )

    variables = exports(devstack("env").stdout)
    assert variables["KAFKA_SECURITY_PROTOCOL"] == "PLAINTEXT"
    with redis.Redis.from_url(variables["REDIS_URL"]) as client:
        assert client.ping()
    for name in ("DATABASE_URL", "REDIS_URL"):
        password = variables[name].split("@")[0].rpartition(":")[2]
        assert password not in up.stdout + status.stdout

    down = devstack("down")
    assert "Stopped postgres, redis, kafka" in down.stdout
    assert not any(psutil.pid_exists(row["pid"]) for row in answer["services"].values())
    assert devstack("status").returncode == 3


def test_up_leaves_alone_what_runs(devstack):
    devstack("up", "-s", "redis")
    before = json.loads(devstack("status", "--json").stdout)

    again = devstack("up", "-s", "redis")

    assert "Everything was running already" in again.stdout
    assert json.loads(devstack("status", "--json").stdout) == before


def test_up_says_that_a_process_is_gone_and_starts_it_on_the_same_port(devstack):
    devstack("up", "-s", "redis")
    before = json.loads(devstack("status", "--json").stdout)["services"]["redis"]
    os.kill(before["pid"], signal.SIGKILL)

    status = devstack("status")
    assert status.returncode == 3
    assert f"process {before['pid']} is gone" in status.stdout

    up = devstack("up", "-s", "redis")
    assert up.returncode == 0
    assert f"its process {before['pid']} is gone: starting it again" in up.stderr
    after = json.loads(devstack("status", "--json").stdout)["services"]["redis"]
    assert after["url"] == before["url"]
    assert after["pid"] != before["pid"]


def test_a_second_service_joins_those_that_run(devstack):
    devstack("up", "-s", "redis")
    assert devstack("up", "-s", "postgres").returncode == 0

    assert json.loads(devstack("status", "--json").stdout)["services"].keys() == {"postgres", "redis"}
    assert "Stopped postgres, redis" in devstack("down").stdout


def test_wipe_removes_what_was_kept(devstack, tmp_path):
    devstack("up", "-s", "redis")
    assert (tmp_path / "var" / "devstack" / "state.json").exists()

    devstack("down", "--wipe")

    assert not (tmp_path / "var" / "devstack").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_foreground_runs_until_it_is_told_to_stop(tmp_path, number):
    child = subprocess.Popen(
        command("up", "--foreground", "-s", "redis", "--state-dir", str(tmp_path)),
        env={**environment(), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        while "Stop it" not in (line := child.stdout.readline()):
            assert line, "it ended before it was up"
        server = json.loads((tmp_path / "state.json").read_text())["services"]["redis"]["server"]["pid"]
        child.send_signal(number)
        child.communicate(timeout=90)
    finally:
        child.kill()
        child.communicate()

    assert child.returncode == 0
    assert not psutil.pid_exists(server)


def test_env_without_services_says_what_to_do(devstack):
    outcome = devstack("env")

    assert outcome.returncode == 1
    assert outcome.stdout == ""
    assert "python -m devstack up" in outcome.stderr


def test_missing_java_is_one_sentence(devstack, tmp_path, monkeypatch):
    monkeypatch.setenv("JAVA_HOME", "/nowhere")

    outcome = devstack("up", "-s", "kafka")

    assert outcome.returncode == 1
    assert outcome.stderr.startswith("Error: JAVA_HOME=/nowhere holds no bin/java. Kafka needs Java 17")
    assert "Traceback" not in outcome.stderr


@pytest.mark.parametrize("arguments", [(), ("up",), ("down",), ("status",), ("env",), ("fetch",)])
def test_help_explains_every_command(devstack, arguments):
    outcome = devstack(*arguments, "--help")

    assert outcome.returncode == 0
    assert "Usage:" in outcome.stdout


def test_state_directory_of_another_program_is_refused(devstack, tmp_path: Path):
    (tmp_path / "state.json").write_text("{}")

    outcome = devstack("status", "--state-dir", str(tmp_path))

    assert outcome.returncode == 1
    assert "is not a state file" in outcome.stderr
