"""
Tasks that run once, on a Celery worker and on ours, whose processes are killed at every point.

Each test orders deaths, dispatches, and looks at the effects: rows of a table, one for each body that was committed.
"""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import closing
from typing import Any
from uuid import uuid4

import psycopg2
import pytest

from tests.project.harness import Project, Started, wait_for

POINTS = ("body", "commit", "published", "success")


@pytest.fixture(scope="module")
def project(bridged: Project) -> Project:
    query(bridged, "CREATE TABLE once_effect (name text)")
    # Redis gives what a killed worker had to the next one after this.
    bridged.environment["BRIDGED_TRANSPORT"] = json.dumps({"visibility_timeout": 1})
    return bridged


class Side:
    """The side that everything is sent to, and its worker."""

    def __init__(self, project: Project, name: str) -> None:
        self.name = name
        self._project = project
        self.worker = self.start()

    def start(self) -> Started:
        """Start a worker with three processes."""
        if self.name == "kafka":
            self.worker = self._project.kafka_worker(processes=3)
        else:
            self.worker = self._project.celery_worker(concurrency=3)
        return self.worker


on_kafka = pytest.mark.parametrize("side", ["kafka"], indirect=True)
"""For what Celery does not have: an outbox, records that come back though acknowledged, observations without a flag."""


@pytest.fixture(scope="module", params=["celery", "kafka"])
def side(project: Project, request: pytest.FixtureRequest) -> Iterator[Side]:
    """A side with a worker, and the relay for what is due later."""
    if request.param == "kafka":
        project.stand("work", "live", 10_000)
    project.relay()
    yield Side(project, request.param)
    project.stop()


def query(project: Project, statement: str, *parameters: Any) -> list[Any]:
    with closing(psycopg2.connect(project.environment["DATABASE_URL"])) as connection, connection:
        cursor = connection.cursor()
        cursor.execute(statement, parameters)
        return cursor.fetchall() if cursor.description else []


def effects(project: Project, names: Collection[str]) -> Counter[str]:
    return Counter(row[0] for row in query(project, "SELECT name FROM once_effect WHERE name = ANY(%s)", list(names)))


def bodies(project: Project, name: str, what: str = "body") -> int:
    return sum(line["id"] == name and line["what"] == what for line in project.journal())


def run(project: Project, code: str) -> Any:
    """Run code that dispatches; return what it prints."""
    head = (
        "from celery import chain, chord\nfrom bridged import once_tasks as t\n"
        "def order(name, point, what='die'): journal.client().set(t.fault(name, point), what)\n"
    )
    return project.script(head + code)


def results(project: Project, ids: Collection[str]) -> dict[str, Any]:
    """Return state and value of each task, once all are there."""
    code = (
        "import time\n"
        f"found = [app.AsyncResult(one) for one in {list(ids)!r}]\n"
        "deadline = time.monotonic() + 90\n"
        "while not all(one.ready() for one in found) and time.monotonic() < deadline: time.sleep(0.1)\n"
        "print(json.dumps({one.id: [one.state, repr(one.result)] for one in found}))"
    )
    return dict(project.script(code))


def test_a_chain_that_is_killed_at_each_point_takes_each_effect_once(project: Project, side: Side) -> None:
    cases = [(number, point) for number in range(3) for point in POINTS if (number, point) != (2, "published")]
    mark = uuid4().hex[:8]
    names = {case: [f"{mark}-{case[0]}-{case[1]}:{number}" for number in range(3)] for case in cases}
    orders = [(names[case][case[0]], case[1]) for case in cases]
    ids = run(
        project,
        f"for name, point in {orders!r}: order(name, point)\n"
        f"print(json.dumps([chain(t.step.s(0, name=a), t.step.s(name=b), t.step.s(name=c)).apply_async().id"
        f" for a, b, c in {list(names.values())!r}]))",
    )
    assert results(project, ids) == {one: ["SUCCESS", "3"] for one in ids}
    every = [name for chain in names.values() for name in chain]
    assert effects(project, every) == Counter(every)
    for number, point in cases:
        expected = 2 if point == "body" else 1
        assert bodies(project, names[number, point][number]) == expected, (number, point)


def test_a_chord_whose_parts_are_killed_counts_each_of_them_once(project: Project, side: Side) -> None:
    names = [f"{uuid4().hex[:8]}:{number}" for number in range(4)]
    [task_id] = run(
        project,
        f"names = {names!r}\n"
        "for name, point in zip(names, ['body', 'commit', 'success', 'commit']): order(name, point)\n"
        "print(json.dumps([chord([t.step.s(1, name=name) for name in names[:3]])(t.total.s(name=names[3])).id]))",
    )
    assert results(project, [task_id]) == {task_id: ["SUCCESS", "6"]}
    assert effects(project, names) == Counter(names)


def test_a_callback_that_runs_once_does_so_though_it_is_sent_twice(project: Project, side: Side) -> None:
    first, second = (f"{uuid4().hex[:8]}:{number}" for number in range(2))
    [task_id] = run(
        project,
        f"order({first!r}, 'published')\n"
        f"print(json.dumps([t.step.apply_async((1,), dict(name={first!r}), link=t.step.s(name={second!r})).id]))",
    )
    results(project, [task_id])
    wait_for(lambda: effects(project, [first, second]) == Counter([first, second]), "both effects")
    sent = [line for line in project.journal() if line["what"] == "prerun" and line["task"].endswith("once_tasks.step")]
    assert len([line for line in sent if line["id"] == task_id]) == 2
    # The callback came twice, if the second has been taken up already, and its body ran once.
    assert bodies(project, second) == 1


def test_a_failure_is_repeated_to_the_end_and_undone(project: Project, side: Side) -> None:
    name = uuid4().hex[:8]
    [task_id] = run(
        project,
        f"print(json.dumps([t.fails.apply_async((), dict(name={name!r}), link_error=t.told.s()).id]))",
    )
    assert results(project, [task_id]) == {task_id: ["FAILURE", f"ValueError('{name}')"]}
    wait_for(lambda: bodies(project, name, "errback"), "its errback")
    run(project, f"t.fails.apply_async((), dict(name={name!r}), link_error=t.told.s(), task_id={task_id!r})")
    wait_for(lambda: bodies(project, name, "errback") == 2, "its errback, again")
    assert (bodies(project, name), effects(project, [name])) == (1, Counter())


def test_a_retry_that_is_sent_twice_is_one_attempt(project: Project, side: Side) -> None:
    name = uuid4().hex[:8]
    [task_id] = run(project, f"order({name!r}, 'retry')\nprint(json.dumps([t.again.delay(name={name!r}).id]))")
    assert results(project, [task_id]) == {task_id: ["SUCCESS", "1"]}
    run(project, f"t.again.apply_async((), dict(name={name!r}), task_id={task_id!r})")

    def ended() -> bool:
        lines = [line["what"] for line in project.journal() if line["id"] == task_id]
        return lines.count("postrun") >= 2 and lines[-1] == "postrun"

    wait_for(ended, "another delivery of the first attempt")
    assert (bodies(project, name), effects(project, [name])) == (2, Counter([name]))
    assert results(project, [task_id]) == {task_id: ["SUCCESS", "1"]}


def test_what_waits_for_the_commit_is_dispatched_once_and_after_it(project: Project, side: Side) -> None:
    name = uuid4().hex[:8]
    [task_id] = run(project, f"order({name!r}, 'body')\nprint(json.dumps([t.tells.delay(name={name!r}).id]))")
    assert results(project, [task_id])[task_id][0] == "SUCCESS"
    wait_for(lambda: bodies(project, name, "heard"), "the task that was dispatched on commit")
    [line] = [line for line in project.journal() if line["id"] == name and line["what"] == "heard"]
    assert "success" in line["outcomes"]
    assert (bodies(project, name), effects(project, [name])) == (2, Counter([name]))


@on_kafka
@pytest.mark.parametrize("point", ["body", "commit"])
def test_what_goes_through_the_outbox_is_dispatched_with_the_effect(project: Project, side: Side, point: str) -> None:
    name = uuid4().hex[:8]
    [task_id] = run(project, f"order({name!r}, {point!r})\nprint(json.dumps([t.writes.delay(name={name!r}).id]))")
    assert results(project, [task_id]) == {task_id: ["SUCCESS", f"'{name}'"]}
    wait_for(lambda: bodies(project, name, "written"), "the task that was dispatched by a row")
    wait_for(lambda: not query(project, "SELECT FROM taskbridge_outbox"), "an empty outbox")
    assert (bodies(project, name, "written"), effects(project, [name])) == (1, Counter([name]))
    assert bodies(project, name) == (2 if point == "body" else 1)


def test_two_deliveries_at_the_same_time_are_one_execution(project: Project, side: Side) -> None:
    name, task_id = uuid4().hex[:8], str(uuid4())
    run(
        project,
        f"order({name!r}, 'body', 'wait')\n"
        f"for _ in range(2): t.step.apply_async((1,), dict(name={name!r}), task_id={task_id!r})",
    )
    wait_for(lambda: bodies(project, name, "waits"), "the first to be in its body")
    lines = wait_for(lambda: begun(project, task_id, 2), "the second to begin")
    assert len(lines) == 2
    assert bodies(project, name) == 1
    assert effects(project, [name]) == Counter()
    # Whoever is in the body dies, and whoever waited takes over.
    [waiting] = [line for line in project.journal() if line["id"] == name and line["what"] == "waits"]
    os.kill(waiting["pid"], signal.SIGKILL)
    assert results(project, [task_id]) == {task_id: ["SUCCESS", "2"]}
    assert effects(project, [name]) == Counter([name])


def begun(project: Project, task_id: str, times: int) -> list[Any]:
    lines = [line for line in project.journal() if line["id"] == task_id and line["what"] == "prerun"]
    return lines if len(lines) >= times else []


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ("durable", "atomic(durable=True)"),
        ("returns_what_json_lacks", "returned object, which JSON cannot express"),
    ],
)
def test_what_cannot_be_done_once_fails_and_says_so(project: Project, side: Side, task: str, words: str) -> None:
    name = uuid4().hex[:8]
    [task_id] = run(project, f"print(json.dumps([t.{task}.delay(name={name!r}).id]))")
    state, error = results(project, [task_id])[task_id]
    assert state == "FAILURE"
    assert words in error
    assert f"task bridged.once_tasks.{task} asks for once=True" in error
    assert effects(project, [name]) == Counter()


def test_a_hard_time_limit_leaves_no_effect(project: Project, side: Side) -> None:
    name = uuid4().hex[:8]
    [task_id] = run(project, f"print(json.dumps([t.overdue.delay(name={name!r}).id]))")
    state, error = results(project, [task_id])[task_id]
    assert (state, "TimeLimitExceeded" in error) == ("FAILURE", True)
    assert effects(project, [name]) == Counter()


def test_a_worker_that_is_killed_as_a_whole_leaves_each_effect_once(project: Project, side: Side) -> None:
    names = [f"{uuid4().hex[:8]}:{number}" for number in range(3)]
    ids = run(
        project,
        f"names = {names!r}\n"
        "order(names[0], 'body', 'wait')\norder(names[1], 'commit', 'wait')\norder(names[2], 'success', 'wait')\n"
        "print(json.dumps([t.step.delay(1, name=name).id for name in names]))",
    )
    for name in names:
        wait_for(lambda name=name: bodies(project, name, "waits"), f"{name} to wait for its end")
    os.killpg(side.worker.process.pid, signal.SIGKILL)
    side.worker.process.wait()
    side.start()
    wait_for(lambda: all(begun(project, one, 2) for one in ids), "the second deliveries", timeout=100)
    assert results(project, ids) == {one: ["SUCCESS", "2"] for one in ids}
    assert effects(project, names) == Counter(names)
    assert [bodies(project, name) for name in names] == [2, 1, 1]


@on_kafka
def test_on_kafka_what_was_acknowledged_early_is_given_back_too(project: Project, side: Side) -> None:
    name = uuid4().hex[:8]
    [task_id] = run(project, f"order({name!r}, 'commit')\nprint(json.dumps([t.early.delay(name={name!r}).id]))")
    assert results(project, [task_id]) == {task_id: ["SUCCESS", f"'{name}'"]}
    assert (bodies(project, name), effects(project, [name])) == (1, Counter([name]))


@on_kafka
def test_the_report_counts_what_was_skipped_and_calls_none_of_it_a_duplicate(project: Project, side: Side) -> None:
    name, task_id = uuid4().hex[:8], str(uuid4())
    for times in (1, 2):
        run(project, f"t.step.apply_async((1,), dict(name={name!r}), task_id={task_id!r})")
        wait_for(lambda times=times: len(begun(project, task_id, times)) == times, f"delivery {times}")
        assert results(project, [task_id]) == {task_id: ["SUCCESS", "2"]}

    def reported() -> Any:
        done = project.cli("report", "work", "--json", "--task", "bridged.once_tasks.*", check=False)
        executed = json.loads(done.stdout)["services"][0]["executed"]
        return executed if executed["reasons"].get("skipped") else None

    assert wait_for(reported, "the skip in the report", interval=0.5)["classes"]["DUPLICATE"] == 0
    assert effects(project, [name]) == Counter([name])
