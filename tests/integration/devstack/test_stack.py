"""The local services themselves: real processes, started, stopped, killed and left alone."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import psutil
import psycopg2
import pytest
import redis
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from devstack import DevstackError, Stack, jars
from devstack.errors import NotReadyError, ServiceFailedError
from devstack.postgres import Postgres
from devstack.process import GuardedServer, Spec, server_environment
from devstack.redis_server import Redis

pytestmark = pytest.mark.services


def wait_until(condition: Callable[[], bool], what: str, timeout: float = 15.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout:g} s for {what}"
        time.sleep(0.02)


def processes_of(folder: Path) -> list[psutil.Process]:
    """Return the living processes, guards among them, that name `folder` or work in it."""
    found = []
    for process in psutil.process_iter():
        try:
            place = str(folder)
            if place in process.cwd() or any(place in argument for argument in process.cmdline()):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return [process for process in found if process.pid != os.getpid()]


def read_database(url: str, statement: str) -> list[tuple]:
    connection = psycopg2.connect(url)
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []
    finally:
        connection.close()


def produce(bootstrap: str, topic: str, *values: str) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(topic, 1)])[topic].result(60)
    producer = Producer({"bootstrap.servers": bootstrap, "acks": "all"})
    for value in values:
        producer.produce(topic, value.encode())
    assert producer.flush(10) == 0


def consume(bootstrap: str, topic: str, count: int) -> list[str]:
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": f"{topic}-{uuid4().hex}", "auto.offset.reset": "earliest"}
    )
    consumer.subscribe([topic])
    try:
        return [record.value().decode() for record in consumer.consume(count, timeout=20)]
    finally:
        consumer.close()


def test_all_three_speak(database_url, redis_url, kafka_bootstrap, topic_prefix):
    assert read_database(database_url, "SELECT 6 * 7") == [(42,)]

    with redis.Redis.from_url(redis_url) as client:
        client.set(topic_prefix, "value", ex=60)
        assert client.get(topic_prefix) == b"value"

    produce(kafka_bootstrap, f"{topic_prefix}.orders", "first", "second")
    assert consume(kafka_bootstrap, f"{topic_prefix}.orders", 2) == ["first", "second"]


def test_a_fresh_database_is_empty_and_its_own(database_url, fresh_database_url):
    assert fresh_database_url != database_url
    read_database(fresh_database_url, "CREATE TABLE only_here (id int)")

    tables = "SELECT count(*) FROM pg_tables WHERE tablename = 'only_here'"
    assert read_database(fresh_database_url, tables) == [(1,)]
    assert read_database(database_url, tables) == [(0,)]


@pytest.fixture(scope="module")
def own_stack() -> Iterator[Stack]:
    """A stack that tests may hurt: never somebody's named servers, nor the session's."""
    with Stack() as services:
        yield services


def test_an_application_finds_every_service_in_its_environment(own_stack):
    assert set(own_stack.environment) == {
        "DATABASE_URL",
        "REDIS_URL",
        "KAFKA_BOOTSTRAP_SERVERS",
        "KAFKA_SECURITY_PROTOCOL",
    }


@pytest.mark.parametrize("name", ["postgres", "redis"])
def test_a_wrong_password_is_refused(own_stack, name):
    service = own_stack[name]
    right = service.state.password
    service.state.password = "wrong"
    try:
        with pytest.raises(NotReadyError, match=r"password|authentication"):
            service.probe()
    finally:
        service.state.password = right


def test_no_file_but_the_state_holds_a_password(own_stack):
    passwords = [service.state.password.encode() for service in own_stack.services.values() if service.state.password]
    assert len(passwords) == 2

    holders = {
        path.name
        for path in own_stack.state_dir.rglob("*")
        if path.is_file() and any(password in path.read_bytes() for password in passwords)
    }

    assert holders == {"state.json"}


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_kafka_comes_back_where_it_was_with_its_records(own_stack, topic_prefix, end):
    kafka = own_stack["kafka"]
    url, pid = kafka.url, kafka.pid
    produce(url, f"{topic_prefix}.kept", "before")

    getattr(kafka, end)()
    with pytest.raises(NotReadyError):
        kafka.probe()
    kafka.start()

    assert kafka.url == url
    assert kafka.pid != pid
    assert consume(url, f"{topic_prefix}.kept", 1) == ["before"]


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_redis_comes_back_with_its_keys(own_stack, end):
    server = own_stack["redis"]
    with redis.Redis.from_url(server.url) as client:
        client.set(f"kept-{end}", "value")

    getattr(server, end)()
    server.start()

    with redis.Redis.from_url(server.url) as client:
        assert client.get(f"kept-{end}") == b"value"


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_postgres_comes_back_with_its_rows_although_a_session_was_open(own_stack, end):
    server = own_stack["postgres"]
    read_database(server.url, f"CREATE TABLE kept_{end} AS SELECT 7 AS number")
    session = psycopg2.connect(server.url)
    try:
        getattr(server, end)()
        server.start()
    finally:
        session.close()

    assert read_database(server.url, f"TABLE kept_{end}") == [(7,)]


@pytest.mark.parametrize("name", ["postgres", "redis", "kafka"])
def test_a_paused_service_is_silent_until_it_is_resumed(own_stack, name):
    service = own_stack[name]
    service.pause()
    try:
        with pytest.raises(NotReadyError):
            service.probe()
        assert service.is_running
    finally:
        service.resume()

    def answers() -> bool:
        try:
            service.probe()
        except NotReadyError:
            return False
        return True

    wait_until(answers, f"{name} to answer again")


def test_a_service_that_died_by_itself_can_be_started_again(own_stack):
    server = own_stack["redis"]
    os.kill(server.pid, signal.SIGKILL)
    wait_until(lambda: not server.is_running, "the server to end")

    with pytest.raises(DevstackError, match=r"redis is not running"):
        _ = server.pid
    server.start()

    server.probe()


def test_nothing_is_left_after_the_block():
    with Stack(["postgres", "redis"]) as services:
        folder = services.state_dir
        assert len(processes_of(folder)) >= 4

    assert processes_of(folder) == []
    assert not folder.exists()


def test_an_exception_in_the_block_leaves_nothing():
    with pytest.raises(ZeroDivisionError), Stack(["redis"]) as services:
        raise ZeroDivisionError

    assert processes_of(services.state_dir) == []
    assert not services.state_dir.exists()


def test_a_port_that_another_process_took_first_is_given_up_for_another(monkeypatch):
    with Stack(["redis"]) as first:
        offers = iter([first["redis"].port, None])
        from devstack.ports import free_port

        monkeypatch.setattr("devstack.service.free_port", lambda taken: next(offers) or free_port(taken))
        with Stack(["redis"]) as second:
            assert second["redis"].port != first["redis"].port
            second["redis"].probe()


def test_a_server_that_cannot_start_is_reported_with_the_end_of_its_log(monkeypatch):
    monkeypatch.setattr("devstack.redis_server._CONFIGURATION", "no-such-directive\nport {port}\n")

    with pytest.raises(DevstackError) as failed, Stack(["redis"]):
        pass

    assert "redis.log, ends with" in str(failed.value)
    assert "no-such-directive" in str(failed.value)


@pytest.mark.parametrize("command", ["true", "false"])
def test_a_server_that_ends_at_once_is_noticed(tmp_path, command):
    """However soon: also before its guard has had time to look."""
    log = tmp_path / "stack" / "server" / "log"
    log.parent.mkdir(parents=True)
    for _ in range(10):
        spec = Spec([command], str(log.parent), str(log), owner=os.getpid(), environment=server_environment())
        # It may be gone before it could be told from a later process with its number.
        with suppress(ServiceFailedError):
            server = GuardedServer.launch(spec, timeout=10)
            server.stop(timeout=10)
            assert not server.is_running()
        assert processes_of(log.parent) == []


def test_when_one_service_fails_the_others_are_stopped(monkeypatch):
    stack = Stack(["postgres", "redis"])
    monkeypatch.setattr("devstack.redis_server._CONFIGURATION", "no-such-directive\n")

    with pytest.raises(DevstackError), stack:
        pass

    assert processes_of(stack.state_dir) == []


def test_a_server_that_never_answers_is_given_up_in_time(monkeypatch):
    monkeypatch.setattr(Redis, "start_timeout", 0.5)
    monkeypatch.setattr(Redis, "url", "redis://127.0.0.1:1/0")
    stack = Stack(["redis"])

    with pytest.raises(DevstackError, match=r"redis did not answer within 0\.5 s"), stack:
        pass

    assert processes_of(stack.state_dir) == []


STARTER = """
import sys, threading, time
from devstack import Stack

stack = Stack(sys.argv[1].split(","))
try:
    {start}
    print(stack.state_dir, flush=True)
    time.sleep(600)
finally:
    stack.stop()
"""
IN_A_THREAD = "thread = threading.Thread(target=stack.start); thread.start(); thread.join()"


@pytest.fixture
def starter(tmp_path) -> Iterator[Callable[..., tuple[subprocess.Popen, Path]]]:
    """Return a function that runs a stack in another process and returns that process and its folder."""
    children = []

    def start(services: str, how: str = "stack.start()") -> tuple[subprocess.Popen, Path]:
        program = STARTER.replace("{start}", how)
        child = subprocess.Popen(
            [sys.executable, "-c", program, services],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            text=True,
        )
        children.append(child)
        folder = Path(child.stdout.readline().strip())
        assert folder.is_relative_to(tempfile.gettempdir())
        return child, folder

    yield start
    for child in children:
        child.kill()
        child.wait()
        child.stdout.close()


@pytest.mark.parametrize(
    ("number", "services"),
    [
        (signal.SIGKILL, "postgres,redis,kafka"),
        (signal.SIGTERM, "postgres,redis"),
        (signal.SIGINT, "postgres,redis"),  # Ctrl-C
    ],
)
def test_no_orphan_when_the_starting_process_ends(starter, number, services):
    child, folder = starter(services)
    assert len(processes_of(folder)) >= 2 * len(services.split(","))

    child.send_signal(number)
    child.wait(timeout=20)

    wait_until(lambda: not processes_of(folder), "the services to end")
    wait_until(lambda: not folder.exists(), "the data to be removed")


def test_no_orphan_when_a_service_was_down_as_the_starting_process_was_killed(starter):
    child, folder = starter("postgres,redis")
    server = json.loads((folder / "state.json").read_text())["services"]["redis"]["server"]["pid"]
    os.kill(server, signal.SIGKILL)

    child.kill()
    child.wait()

    wait_until(lambda: not processes_of(folder), "the services to end")
    wait_until(lambda: not folder.exists(), "the data to be removed")


def test_the_first_orderly_end_of_kafka_leaves_its_classes_to_later_ones(tmp_path, monkeypatch):
    cache = jars.fetch(lambda _line: None)
    copy = tmp_path / "taskbridge" / cache.name
    copy.mkdir(parents=True)
    for jar in cache.glob("*.jar"):
        (copy / jar.name).symlink_to(jar)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    with Stack(["kafka"]) as services:
        assert not list(copy.glob("*.jsa"))
        services["kafka"].stop()
        (archive,) = copy.glob("*.jsa")
        services["kafka"].start()
        assert f"-XX:SharedArchiveFile={archive}" in psutil.Process(services["kafka"].pid).cmdline()

    assert [path.name for path in copy.iterdir() if path.suffix != ".jar"] == [archive.name]


def test_services_outlive_the_thread_that_started_them(starter):
    """A parent-death signal would fire when the thread ends."""
    child, folder = starter("redis", how=IN_A_THREAD)
    server = json.loads((folder / "state.json").read_text())["services"]["redis"]["server"]["pid"]

    assert psutil.Process(server).is_running()
    child.kill()
    child.wait()
    wait_until(lambda: not processes_of(folder), "the services to end")


def test_no_orphan_when_the_guard_itself_is_killed():
    with Stack(["postgres"]) as services:
        server = services["postgres"]
        os.kill(server.state.guard.pid, signal.SIGKILL)
        wait_until(lambda: not processes_of(services.state_dir), "the server and its children to end")
        assert not server.is_running


def test_data_and_password_of_a_state_directory_stay(tmp_path):
    with Stack(["postgres"], tmp_path) as services:
        url = services["postgres"].url
        read_database(url, "CREATE TABLE kept AS SELECT 7 AS number")

    with Stack(["postgres"], tmp_path) as services:
        assert services["postgres"].url == url
        assert read_database(url, "SELECT number FROM kept") == [(7,)]


def test_a_cluster_whose_password_is_lost_is_refused_with_the_remedy(tmp_path):
    with Stack(["postgres"], tmp_path):
        pass
    (tmp_path / "state.json").unlink()

    with pytest.raises(DevstackError, match=r"password.*remove"), Stack(["postgres"], tmp_path):
        pass


@pytest.mark.skipif(os.geteuid() != 0, reason="PostgreSQL refuses root alone: run the tests as root to see it")
def test_root_can_run_postgres_below_a_folder_closed_to_others(tmp_path):
    tmp_path.chmod(0o700)
    with Stack(["postgres"], tmp_path / "closed") as services:
        account = psutil.Process(services["postgres"].pid).uids().real
        assert account != 0
        assert read_database(services["postgres"].url, "SELECT 1") == [(1,)]


def test_unknown_services_are_named():
    with pytest.raises(DevstackError, match=r"no service 'mongo': choose from postgres, redis, kafka"):
        Stack(["mongo"])


def test_postgres_is_durable_by_its_own_account(own_stack):
    """Fault tests rely on it: what was committed is there after a crash of the server."""
    assert isinstance(own_stack["postgres"], Postgres)
    assert read_database(own_stack["postgres"].url, "SHOW synchronous_commit") == [("on",)]
