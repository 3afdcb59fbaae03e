"""
Celery's broker and results, while their Redis is away.

A service that is live does not need Celery's broker, but its results stay where they were. So a task whose result
nobody wants is dispatched and runs as if nothing were; one with a result cannot even be dispatched, because Celery
subscribes to the result before it publishes, on every broker. Results of what runs meanwhile are kept trying by the
backend, and are there afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.faults.scene import Scene
from tests.project.harness import Console, Started, wait_for

pytestmark = pytest.mark.services


@pytest.fixture(scope="module")
def worker(scene: Scene) -> Started:
    scene.move("live")
    return scene.project.kafka_worker()


@pytest.fixture(scope="module")
def console(scene: Scene, worker: Started) -> Iterator[Console]:
    return scene.project.console()


def test_explore(scene: Scene, worker: Started, console: Console) -> None:
    (nap,) = console.dispatch("naps", 1, 2)
    (res,) = console.dispatch("add", 1, 1, 2)
    wait_for(lambda: scene.runs([nap]), "the beginning of a task with a result")
    scene.redis.kill()
    import time
    t = time.monotonic()
    print("A", console.answer("dispatch('nothing', 3)"), time.monotonic() - t)
    t = time.monotonic()
    print("B", console.answer("dispatch('add', 1, 1, 2)"), time.monotonic() - t)
    t = time.monotonic()
    print("unfinished", scene.unfinished(), len(scene.records(scene.topic)))
    time.sleep(4)
    scene.redis.start()
    wait_for(lambda: scene.unfinished() == 0, "commit")
    print("C", time.monotonic() - t, console.answer(f"app.AsyncResult({nap!r}).get(timeout=30)"))
    print("C", time.monotonic() - t, console.answer("tasks.add.delay(20, 22).get(timeout=20)"))
    print(worker.output()[-6000:])
    print(scene.project.journal()[-10:])
    print(scene.records(scene.topic))
    assert 0
