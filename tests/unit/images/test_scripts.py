"""The scripts that images begin with, run here: programs that they start are stood in for."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from images.recipes import ROOT

Program = Callable[[str, str], Path]

IMAGES = ROOT / "images"


def run(script: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script of an image to its end, with this environment and no other."""
    return subprocess.run(
        ["sh", str(IMAGES / script), *arguments],
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.fixture
def secret(tmp_path: Path) -> str:
    path = tmp_path / "password"
    path.write_text("s3cret\n")
    return str(path)


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        ("kafka/bin/broker", "broker: KAFKA_ADVERTISED_HOST is not set: set it to"),
        ("kafka/bin/connect", "connect: KAFKA_BOOTSTRAP_SERVERS is not set: set it to"),
        ("kafka/bin/kafka-tool", "kafka-tool: there is no tool '': name topics, acls, configs or consumer-groups."),
    ],
)
def test_what_is_missing_is_named(script: str, sentence: str) -> None:
    done = run(script)

    assert done.returncode == 2
    assert done.stderr.startswith(sentence)
    assert done.stderr.count("\n") == 1


def test_a_broker_without_its_secret_says_so(tmp_path: Path) -> None:
    missing = str(tmp_path / "nowhere")

    done = run("kafka/bin/broker", KAFKA_ADVERTISED_HOST="kafka", KAFKA_ADMIN_PASSWORD_FILE=missing)

    assert done.returncode == 2
    assert done.stderr == f"broker: {missing} is not there or empty: mount the secret with the super user's password.\n"


def test_a_password_that_would_break_a_configuration_is_refused(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text('a"b')
    given = {"KAFKA_ADMIN_PASSWORD_FILE": str(secret), "KAFKA_DATA": str(tmp_path)}

    done = run("kafka/bin/broker", KAFKA_ADVERTISED_HOST="kafka", **given)

    assert done.returncode == 2
    assert "has a character other than letters, digits" in done.stderr
    assert 'a"b' not in done.stderr


def test_connect_wants_its_password(secret: str) -> None:
    given = {"KAFKA_BOOTSTRAP_SERVERS": "kafka:9092", "KAFKA_SECURITY_PROTOCOL": "SASL_SSL"}

    assert "needs a user" in run("kafka/bin/connect", **given).stderr
    given["KAFKA_SASL_USERNAME"] = "connect"
    assert "names no file with a password" in run("kafka/bin/connect", **given).stderr
    given |= {"KAFKA_SASL_PASSWORD_FILE": secret, "KAFKA_SASL_MECHANISMS": "GSSAPI"}
    assert "KAFKA_SASL_MECHANISMS is GSSAPI" in run("kafka/bin/connect", **given).stderr
    assert "SECURITY_PROTOCOL is TLS" in run("kafka/bin/connect", **{**given, "KAFKA_SECURITY_PROTOCOL": "TLS"}).stderr


def test_a_tool_is_run_as_the_super_user(program: Program) -> None:
    program("java", 'echo "$@"')

    said = run("kafka/bin/kafka-tool", "topics", "--list").stdout

    expected = "org.apache.kafka.tools.TopicCommand --bootstrap-server localhost:9092 --command-config"
    assert expected in said
    assert said.endswith("/kafka/admin.properties --list\n")


def test_redis_does_not_start_without_a_password() -> None:
    done = run("redis/entrypoint", "redis-server")

    assert done.returncode == 2
    assert done.stderr.startswith("redis: REDIS_PASSWORD is not set: set it, or name a file")


def test_redis_gets_its_password_by_its_standard_input(program: Program, secret: str) -> None:
    program("redis-server", 'echo "arguments: $*"; cat')

    for given in ({"REDIS_PASSWORD": "s3cret"}, {"REDIS_PASSWORD_FILE": secret}):
        said = run("redis/entrypoint", "redis-server", **given).stdout.splitlines()
        assert said[0] == "arguments: -"
        assert 'requirepass "s3cret"' in said


def test_other_commands_run_as_they_are(program: Program) -> None:
    program("redis-server", 'echo "arguments: $*"')

    assert run("redis/entrypoint", "redis-server", "--port", "1").stdout == "arguments: --port 1\n"
    assert run("redis/entrypoint", "echo", "one").stdout == "one\n"
    assert run("postgres/entrypoint", "echo", "one", PGDATA="/nowhere").stdout == "one\n"


def test_postgres_does_not_start_without_a_password(tmp_path: Path) -> None:
    done = run("postgres/entrypoint", "postgres", PGDATA=str(tmp_path / "data"))

    assert done.returncode == 2
    assert done.stderr.startswith("postgres: POSTGRES_PASSWORD is not set: set it, or name a file")
    assert not (tmp_path / "data").exists()


def test_postgres_with_data_asks_for_no_password(program: Program, tmp_path: Path) -> None:
    program("postgres", 'echo "$@" "${POSTGRES_PASSWORD-gone}"')
    (tmp_path / "PG_VERSION").write_text("15\n")

    arguments = ["-c", "wal_level=logical"]
    given = {"PGDATA": str(tmp_path), "POSTGRES_PASSWORD": "s3cret"}

    assert run("postgres/entrypoint", *arguments, **given).stdout == "-c listen_addresses=* -c wal_level=logical gone\n"
