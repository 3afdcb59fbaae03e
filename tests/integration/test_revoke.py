"""Tasks that wait with the bridge are revoked by Celery's own means, as if a worker had them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from tests.project.harness import Console, Project, wait_for

pytestmark = pytest.mark.services


@pytest.fixture(scope="module")
def live(bridged: Project) -> Project:
    """The project, with all keys of `work` on Kafka."""
    bridged.stand("work", "live", 10_000)
    # Celery's default: one that revokes knows nothing of the project but its broker.
    bridged.environment["BRIDGED_CONTROL"] = "celery"
    return bridged


@pytest.fixture(scope="module")
def console(live: Project) -> Console:
    console = live.console()
    console.ask(
        "[globals().__setitem__('heard', []), __import__('celery.signals').signals.task_revoked.connect("
        "lambda sender=None, request=None, **rest: heard.append([sender.name, request.id, rest['terminated'],"
        " rest['expired']]), weak=False)] and None"
    )
    return console


@pytest.fixture
def clean(console: Console) -> Iterator[None]:
    yield
    console.ask(f"app.control.revoke({waiting(console)!r}) and None")
    assert waiting(console) == []


def waiting(console: Console) -> list[str]:
    module = "__import__('taskbridge.contrib.django.waiting', fromlist=['find'])"
    found = console.ask(f"[row.task_id for m in [{module}] for row in m.find(bridge.store.sessions, m.Criteria())]")
    return list(found)


def put_aside(console: Console, number: int = 1) -> list[str]:
    return list(console.dispatch("add", number, 1, 2, countdown=3600))


def state(console: Console, task_id: str) -> list[Any]:
    return list(
        console.ask(f"(lambda r: [r.state, type(r.result).__name__, str(r.result)])(app.AsyncResult({task_id!r}))")
    )


@pytest.mark.parametrize(
    "how",
    [
        "app.AsyncResult({0!r}).revoke()",
        "app.control.revoke({0!r})",
        "app.control.revoke([{0!r}, 'another'])",
        "app.control.terminate({0!r})",
        "app.control.broadcast('revoke', task_id={0!r})",
    ],
)
@pytest.mark.usefixtures("clean")
def test_a_task_that_waits_is_revoked(console: Console, how: str) -> None:
    revoked, other = put_aside(console, 2)

    console.ask(how.format(revoked) + " and None")

    assert waiting(console) == [other]
    assert state(console, revoked) == ["REVOKED", "TaskRevokedError", "revoked"]
    assert state(console, other)[0] == "PENDING"
    assert console.ask("heard[-1]") == ["bridged.tasks.add", revoked, False, False]


@pytest.mark.usefixtures("clean")
def test_the_command_of_celery_revokes_what_waits(live: Project, console: Console) -> None:
    first, second, other = put_aside(console, 3)

    # The command goes by the workers that answer, and fails when none does.
    done = live.run("celery", "-A", "bridged.celery", "control", "revoke", first, second, check=False)

    assert done.returncode in {0, os.EX_UNAVAILABLE}, done.stderr
    assert waiting(console) == [other]
    assert state(console, first)[0] == state(console, second)[0] == "REVOKED"


@pytest.mark.usefixtures("clean")
def test_a_revoke_for_certain_workers_leaves_what_waits(console: Console) -> None:
    (task_id,) = put_aside(console)

    console.ask(f"app.control.revoke({task_id!r}, destination=['celery@nowhere']) and None")

    assert waiting(console) == [task_id]


@pytest.mark.usefixtures("clean")
def test_a_worker_of_celery_hears_of_it_too(live: Project, console: Console) -> None:
    worker = live.celery_worker(concurrency=1)
    try:
        (task_id,) = put_aside(console)
        console.ask(f"app.control.revoke({task_id!r}) and None")
        wait_for(
            lambda: task_id in console.ask("[*(app.control.inspect().revoked() or {}).values()][0]"),
            "the worker's knowledge of the revoked task",
        )
    finally:
        worker.terminate()
    assert waiting(console) == []


@pytest.mark.usefixtures("clean")
def test_a_group_ends_when_a_part_that_waits_is_revoked(console: Console) -> None:
    console.ask("globals().__setitem__('parts', __import__('celery').group(tasks.add.s(n, n) for n in range(2)))")
    console.ask("globals().__setitem__('sent', parts.apply_async(countdown=3600))")
    first, second = console.ask("[one.id for one in sent]")

    console.ask("sent.revoke() and None")

    assert state(console, first)[0] == state(console, second)[0] == "REVOKED"
    assert console.ask("[sent.ready(), sent.successful()]") == [True, False]


@pytest.mark.usefixtures("clean")
def test_the_relay_cancels_what_a_process_without_the_bridge_revokes(
    live: Project, console: Console, redis_url: str
) -> None:
    first, other = put_aside(console, 2)
    relay = live.start("relay", "taskbridge.cli", "relay", ready="listening for revoked tasks")
    try:
        live.run("celery", "-b", redis_url, "control", "revoke", first, check=False)
        wait_for(lambda: waiting(console) == [other], "the relay's cancelling")
    finally:
        relay.terminate()
    assert state(console, first)[0] == "REVOKED"
    assert f"cancelled task bridged.tasks.add[{first}]" in relay.output()


def test_to_revoke_raises_nothing_while_the_database_is_away(live: Project) -> None:
    value = live.script(
        "import os, logging\n"
        "from taskbridge.contrib.django import session\n"
        "import django; django.setup()\n"
        "from django.db import connections\n"
        "connections.settings['default']['PORT'] = 1\n"
        "said = []\n"
        "handler = logging.Handler(); handler.emit = lambda record: said.append(record.getMessage())\n"
        "logging.getLogger('taskbridge').addHandler(handler)\n"
        "app.control.revoke('an-id')\n"
        "print(json.dumps(said))\n"
    )
    assert len(value) == 1
    assert value[0].startswith("revoked tasks that wait with the bridge are not cancelled: database 'default'")
