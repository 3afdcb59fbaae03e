"""Tasks that run once do so in every kind of process that executes tasks, and see the same there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from typing import Any
from uuid import uuid4

import psycopg2
import pytest

from tests.project.harness import Project, wait_for

POOLS = ("prefork", "solo", "threads")


@pytest.fixture(scope="module")
def project(bridged: Project) -> Project:
    query(bridged, "CREATE TABLE once_effect (name text)")
    return bridged


@pytest.fixture(scope="module", params=[*POOLS, "kafka"])
def executing(project: Project, request: pytest.FixtureRequest) -> Iterator[str]:
    """Processes of one kind, which get everything."""
    if request.param == "kafka":
        project.stand("work", "live", 10_000)
        worker = project.kafka_worker()
    else:
        worker = project.celery_worker("-P", request.param)
    yield request.param
    assert worker.terminate() == 0, worker.output()


def query(project: Project, statement: str, *parameters: Any) -> list[Any]:
    with closing(psycopg2.connect(project.environment["DATABASE_URL"])) as connection, connection:
        cursor = connection.cursor()
        cursor.execute(statement, parameters)
        return cursor.fetchall() if cursor.description else []


def effects(project: Project, name: str) -> int:
    return int(query(project, "SELECT count(*) FROM once_effect WHERE name = %s", name)[0][0])


def bodies(project: Project, name: str) -> int:
    return sum(line["id"] == name and line["what"] == "body" for line in project.journal())


def asked(project: Project, task: str, name: str, **options: Any) -> Any:
    """Dispatch a task that takes a name; return its result."""
    code = (
        f"from bridged import once_tasks as t\nresult = t.{task}.apply_async((), dict(name={name!r}), **{options!r})\n"
    )
    return project.script(code + "print(json.dumps(result.get(timeout=80)))")


def test_delivered_twice_it_runs_once_and_answers_twice(project: Project, executing: str) -> None:
    name, task_id = uuid4().hex, str(uuid4())
    first = asked(project, "sees", name, task_id=task_id)
    project.script(f"app.backend.forget({task_id!r})")
    assert asked(project, "sees", name, task_id=task_id) == first
    expected = {"id": task_id, "retries": 0, "eager": False, "direct": False, "args": [], "kwargs": {"name": name}}
    assert first == {**expected, "in transaction": True}
    assert (bodies(project, name), effects(project, name)) == (1, 1)


def test_its_body_called_as_a_function_is_a_function(project: Project, executing: str) -> None:
    name = uuid4().hex
    assert asked(project, "calls", name) == [2, 2, True, False]
    assert (bodies(project, name), effects(project, name)) == (3, 3)


def test_its_signals_are_sent_for_each_delivery(project: Project, executing: str) -> None:
    name, task_id = uuid4().hex, str(uuid4())
    asked(project, "sees", name, task_id=task_id)
    asked(project, "sees", name, task_id=task_id)

    def signals() -> Counter[str]:
        return Counter(line["what"] for line in project.journal() if line["id"] == task_id)

    wait_for(lambda: signals()["postrun"] == 2, "the ends of both deliveries")
    assert signals() == {"prerun": 2, "success": 2, "postrun": 2}


def test_a_call_without_a_worker_writes_no_ledger(project: Project) -> None:
    name = uuid4().hex
    code = (
        "import django\ndjango.setup()\nfrom bridged import once_tasks as t\n"
        f"seen = [t.sees({name!r}), t.sees.apply((), dict(name={name!r})).get()]\n"
        "app.conf.task_always_eager = True\n"
        f"seen.append(t.sees.delay(name={name!r}).get())\n"
        "print(json.dumps([[one['direct'], one['eager'], one['in transaction']] for one in seen]))"
    )
    before = query(project, "SELECT count(*) FROM taskbridge_execution")
    assert project.script(code) == [[True, False, False], [False, True, False], [False, True, False]]
    assert query(project, "SELECT count(*) FROM taskbridge_execution") == before
    assert effects(project, name) == 3
