"""The shop on a database of its own, with its processes."""

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import httpx
import psycopg2
import pytest
import redis

from devstack.databases import fresh_database
from tests.integration.shop.inside import set_up

CHECKOUT = Path(__file__).resolve().parents[3]
SERVICES = ("orders", "inventory", "fraud", "payments", "payouts", "notifications", "catalog", "reports")
TOKEN = secrets.token_hex(8)
PATIENCE = 90.0


def wait_until(what: str, condition: Callable[[], Any], patience: float = PATIENCE) -> Any:
    """Return what the condition returns as soon as that is true; fail after `patience` seconds."""
    deadline = time.monotonic() + patience
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            pytest.fail(f"waited {patience:.0f} s in vain for {what}")
        time.sleep(0.05)


class Shop:
    """A shop's environment, its commands and its processes."""

    def __init__(self, environ: dict[str, str], logs: Path) -> None:
        self.environ = environ
        self.logs = logs

    def manage(self, *arguments: str, **environ: str | None) -> subprocess.CompletedProcess[str]:
        """Run a management command to its end; a variable set to None is taken away."""
        merged = {**self.environ, **environ}
        return subprocess.run(
            [sys.executable, str(CHECKOUT / "manage.py"), *arguments],
            env={name: value for name, value in merged.items() if value is not None},
            cwd=self.logs,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )

    def query(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Return the rows of one statement."""
        connection = psycopg2.connect(self.environ["DATABASE_URL"])
        try:
            with connection, connection.cursor() as cursor:
                cursor.execute(statement, parameters)
                return cursor.fetchall()
        finally:
            connection.close()

    @contextmanager
    def process(self, name: str, *command: str) -> Iterator[subprocess.Popen[bytes]]:
        """Run a command in the background, its output in `<name>.log`, and end it by SIGTERM."""
        with (self.logs / f"{name}.log").open("wb") as log:
            running = subprocess.Popen(
                command, env=self.environ, cwd=self.logs, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        try:
            yield running
        finally:
            running.terminate()
            try:
                running.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(running.pid, signal.SIGKILL)
                running.wait(60)

    def log(self, name: str) -> str:
        """Return what a process has written."""
        return (self.logs / f"{name}.log").read_text(errors="replace")


@pytest.fixture(scope="session")
def shop(database_url: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """A shop with a fresh database, migrated and seeded."""
    logs = tmp_path_factory.mktemp("shop")
    _forget_messages(redis_url)
    with fresh_database(database_url) as url:
        shop = Shop(_environ(url, redis_url, logs / "mail"), logs)
        for command in (("migrate", "-v", "0"), ("seed", "--customers", "200", "--products", "50")):
            done = shop.manage(*command)
            assert done.returncode == 0, done.stderr
        yield shop
    _forget_messages(redis_url)


def _environ(database_url: str, redis_url: str, mail: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": os.environ.get("HOME", "/"),
        "PYTHONPATH": os.pathsep.join(str(CHECKOUT / root) for root in ("apps", "bridge")),
        "DJANGO_SETTINGS_MODULE": "shop.config.settings",
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "DJANGO_SECRET_KEY": secrets.token_urlsafe(50),
        "EMAIL_URL": mail.as_uri(),
        "SHOP_API_TOKENS": f"{secrets.token_hex(8)},{TOKEN}",
        "SHOP_JOURNAL": "1",
        "SHOP_PLAIN_HTTP": "1",
        "SHOP_PAYOUT_DELAY": "0.5",
        "SHOP_FOLLOW_UP_DELAY": "1",
    }


def _forget_messages(redis_url: str) -> None:
    """Take the shop's messages of earlier sessions out of a broker that outlives a session."""
    client = redis.Redis.from_url(urlunsplit(urlsplit(redis_url)._replace(path="/0")))
    names = [f"{service}{step}" for service in SERVICES for step in ("", "\x06\x163", "\x06\x166", "\x06\x169")]
    client.delete(*names, "unacked", "unacked_index")
    client.close()


@pytest.fixture(scope="session")
def shop_process(shop: Shop) -> Iterator[ProcessPoolExecutor]:
    """A process with Django set up for the shop."""
    context = get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, initializer=set_up, initargs=(shop.environ,)) as pool:
        yield pool


@pytest.fixture(scope="session")
def site(shop: Shop) -> Iterator[httpx.Client]:
    """A client of the shop's HTTP API, served by gunicorn; it sends a valid token."""
    bind = ("--bind", "127.0.0.1:0", "--workers", "1", "--threads", "4")
    with shop.process("gunicorn", sys.executable, "-m", "gunicorn", *bind, "shop.config.wsgi") as running:

        def address() -> str | None:
            assert running.poll() is None, shop.log("gunicorn")
            _, found, rest = shop.log("gunicorn").partition("Listening at: ")
            return rest.split()[0] if found and " " in rest else None

        url = wait_until("gunicorn to listen", address)
        with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {TOKEN}"}, trust_env=False) as client:
            yield client


@pytest.fixture(scope="session")
def worker(shop: Shop) -> Iterator[subprocess.Popen[bytes]]:
    """A Celery worker of two processes for all of the shop's queues."""
    options = ("-Q", ",".join(SERVICES), "-c", "2", "-l", "INFO", "--without-mingle", "--without-gossip")
    command = (sys.executable, "-m", "celery", "-A", "shop.config.celery", "worker", *options)
    with shop.process("worker", *command) as running:

        def ready() -> bool:
            assert running.poll() is None, shop.log("worker")
            return " ready." in shop.log("worker")

        wait_until("the worker to be ready", ready)
        yield running


def summary(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """Return the JSON object that a command printed last."""
    assert done.stdout, done.stderr
    return json.loads(done.stdout.splitlines()[-1])
