"""
Celery's broker and results, while their Redis is away.

A service that is live does without Celery's broker, but results stay where they were. A task whose result nobody wants
is dispatched as if nothing were. (One with a result waits as long as Celery tries to subscribe to it, which it does
before it publishes, on every broker.) What becomes of a result that cannot be stored is for Celery's settings to say:
with `result_backend_always_retry` the worker tries until it can; without it Celery gives up at once, and the record is
dead-lettered, because nobody would ever hear of it otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.faults.scene import Scene
from tests.project.harness import Console, Started, wait_for

pytestmark = pytest.mark.services


@pytest.fixture(scope="module")
def console(scene: Scene) -> Iterator[Console]:
    scene.move("live")
    return scene.project.console()


@pytest.fixture
def worker(scene: Scene, console: Console, request: pytest.FixtureRequest) -> Iterator[Started]:
    changed = {"BRIDGED_RESULTS_ALWAYS_RETRIED": "1"} if request.param == "always" else {}
    scene.project.environment.update(changed)
    started = scene.project.kafka_worker()
    for name in changed:
        del scene.project.environment[name]
    yield started
    assert started.terminate() == 0, started.output()


def at_work(scene: Scene, console: Console) -> str:
    """Return the id of a task that has begun, and ends in a moment."""
    [task_id] = console.dispatch("naps", 1, 1.0)
    wait_for(lambda: scene.runs([task_id]), "the task's beginning")
    return task_id


@pytest.mark.parametrize("worker", ["once"], indirect=True)
def test_a_result_that_celery_gives_up_is_a_dead_letter_and_the_worker_goes_on(
    scene: Scene, worker: Started, console: Console
) -> None:
    executors = set(worker.executors())
    task_id = at_work(scene, console)
    scene.redis.kill()
    unwanted = console.dispatch("nothing", 20)
    assert max(unwanted.values()) < 1.0, "a dispatch waited for Celery's broker"
    letters = f"{scene.topic}.dlq"
    wait_for(lambda: scene.records(letters), "the dead letter")
    scene.wait_until_committed()
    scene.redis.start()

    [(dead, headers)] = scene.records(letters)
    assert (dead, headers["dlq-reason"]) == (task_id, "unrecorded")
    assert headers["dlq-detail"].startswith("its outcome could not be recorded: ConnectionError: ")
    assert "Error 111" in headers["dlq-traceback"]
    assert set(worker.executors()) == executors, "no process was lost for it"
    assert console.ask("tasks.add.delay(20, 22).get(timeout=80)") == 42


@pytest.mark.parametrize("worker", ["always"], indirect=True)
def test_a_result_that_celery_always_retries_is_there_when_redis_is(
    scene: Scene, worker: Started, console: Console
) -> None:
    letters = len(scene.records(f"{scene.topic}.dlq"))
    task_id = at_work(scene, console)
    scene.redis.kill()
    worker.wait_for_output("Failed operation _store_result")
    scene.redis.start()
    scene.wait_until_committed()
    assert console.ask(f"app.backend.get_task_meta({task_id!r})['status']") == "SUCCESS"
    assert len(scene.runs([task_id])[task_id]) == 1
    assert len(scene.records(f"{scene.topic}.dlq")) == letters
