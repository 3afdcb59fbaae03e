"""What is found of a key at Celery's broker and with its workers."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.project.harness import Console, Project, project, wait_for

FIND = (
    "__import__('taskbridge.adapters.celery.leftovers', fromlist=['Leftovers'])"
    ".Leftovers(app, bridge.settings).find('work', lambda key: key in {keys!r})"
)


@pytest.fixture(scope="module")
def one(servers: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """The project under a prefix of its own."""
    prefix = f"left{time.monotonic_ns() % 10**9}"
    with project(tmp_path_factory.mktemp("left"), prefix, servers) as found:
        yield found


@pytest.fixture
def console(one: Project) -> Console:
    found = one.console()
    found.ask("[journal.client().delete(name) for name in (app.conf.task_default_queue, 'unacked', 'unacked_index')]")
    return found


def find(console: Console, *keys: str) -> str:
    return str(console.ask(FIND.format(keys=[*keys])))


def test_only_messages_of_the_keys_asked_for_and_of_the_service_count(console: Console) -> None:
    console.ask("tasks.keyed.delay('mine', 1).id")
    console.ask("app.send_task('others.task', args=('mine', 1)).id")
    assert find(console, "mine") == "1 queued"
    assert find(console, "theirs") == ""


def test_what_has_an_eta_gave_up_its_place(console: Console) -> None:
    console.ask("tasks.keyed.apply_async(('mine', 1), countdown=3600).id")
    assert find(console, "mine") == ""


def test_what_cannot_be_read_counts_until_somebody_has_thrown_it_away(console: Console) -> None:
    console.ask("tasks.keyed.apply_async(('mine', 1), serializer='pickle').id")
    assert find(console, "theirs") == "1 queued"


def test_what_runs_is_found_though_it_is_acknowledged(one: Project, console: Console) -> None:
    worker = one.celery_worker(concurrency=1)
    task_id = console.ask("tasks.naps.apply_async((20,)).id")
    wait_for(lambda: any(line["id"] == task_id for line in one.journal()), "it runs")
    assert int(console.ask("journal.client().hlen('unacked')")) == 0
    assert find(console, task_id) == "1 running"
    assert find(console, "another") == ""
    waits = console.ask("tasks.keyed.delay('mine', 1).id")
    wait_for(lambda: find(console, "mine") == "1 not acknowledged", "the worker has fetched the next")
    wait_for(lambda: any(line["id"] == waits for line in one.journal()), "the next runs", timeout=80)
    wait_for(lambda: find(console, "mine", task_id) == "", "nothing is left")
    worker.kill()
    # Its name is still there: it may only be slow.
    assert "does not answer" in find(console, "mine")


def test_a_worker_of_the_same_name_hides_nothing(one: Project, console: Console) -> None:
    one.stop()
    console = one.console()
    busy = one.celery_worker(concurrency=1)
    one.celery_worker("--queues", "elsewhere", concurrency=1)
    task_id = console.ask("tasks.naps.apply_async((20,)).id")
    wait_for(lambda: any(line["id"] == task_id for line in one.journal()), "it runs")
    assert {find(console, task_id) for _ in range(3)} == {"1 running"}
    busy.kill()
