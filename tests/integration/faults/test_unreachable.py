"""Every command with a server that is not there: one sentence, a status, no traceback, and soon."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from devstack.ports import free_port
from tests.integration.faults.scene import Scene
from tests.project.harness import Project

pytestmark = pytest.mark.services

KAFKA = {
    "worker": ("worker", "--service", "work", "--processes", "1"),
    "cutover": ("cutover", "elsewhere", "mirror"),
    "topics": ("topics",),
    "report": ("report", "work"),
    "status": ("status",),
    "relay": ("relay", "--once"),
}
DATABASE = {
    "cutover": ("cutover", "work", "off"),
    "status": ("status",),
    "relay": ("relay", "--once"),
}
STATUSES = {"status": 3}


@dataclass(frozen=True)
class Ended:
    """How a command ended, and after how many seconds."""

    done: subprocess.CompletedProcess[str]
    seconds: float


@pytest.fixture(scope="module")
def ended(scene: Scene) -> Iterator[dict[tuple[str, str], Future[Ended]]]:
    """All the commands, some at a time, since each of them mostly waits."""
    scene.move("live")
    # Something for the relay to send.
    scene.project.console().dispatch("nothing", 1, countdown=0.1)
    nowhere = f"127.0.0.1:{free_port()}"
    database = scene.project.environment["DATABASE_URL"]
    credentials, _, place = database.rpartition("@")
    gone = f"{credentials}@{nowhere}/{place.partition('/')[2]}"
    with ThreadPoolExecutor(3) as pool:
        yield {
            **{
                ("Kafka", name): pool.submit(run, scene.project, command, {"KAFKA_BOOTSTRAP_SERVERS": nowhere})
                for name, command in KAFKA.items()
            },
            **{
                ("the database", name): pool.submit(run, scene.project, command, {"DATABASE_URL": gone})
                for name, command in DATABASE.items()
            },
        }


def run(project: Project, command: tuple[str, ...], changed: dict[str, str]) -> Ended:
    other = Project(project.directory, project.prefix, {**project.environment, **changed})
    began = time.monotonic()
    done = other.cli(*command, check=False)
    return Ended(done, time.monotonic() - began)


@pytest.mark.parametrize(
    ("server", "name"), [*(("Kafka", name) for name in KAFKA), *(("the database", name) for name in DATABASE)]
)
def test_a_server_that_is_not_there(ended: dict[tuple[str, str], Future[Ended]], server: str, name: str) -> None:
    found = ended[server, name].result()
    said = found.done.stdout + found.done.stderr
    assert found.done.returncode == STATUSES.get(name, 2), said
    assert "Traceback" not in said
    assert found.seconds < 90
    [sentence] = [line for line in said.splitlines() if line.startswith(("error: ", "! "))]
    assert server.rpartition(" ")[2] in sentence
    if name not in {"status", "relay"}:
        assert found.done.stderr == f"{sentence}\n"
