"""A service that lives on Kafka, while Kafka is away."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from tests.integration.faults.scene import Scene
from tests.project.harness import Console, Started, wait_for

SETTINGS = {"BRIDGED_PUBLISH_TIMEOUT": "1.5", "BRIDGED_BREAKER_SECONDS": "2"}

LOST = "were taken from this worker"

pytestmark = pytest.mark.services


@pytest.fixture(scope="module")
def worker(scene: Scene) -> Started:
    """A worker of ours, beside Celery's; the relay is not started yet."""
    scene.move("live")
    scene.project.celery_worker()
    return scene.project.kafka_worker()


@pytest.fixture(scope="module")
def console(scene: Scene, worker: Started) -> Iterator[Console]:
    return scene.project.console()


def test_kafka_killed_under_load_loses_nothing_and_every_repeat_is_explained(
    scene: Scene, worker: Started, console: Console
) -> None:
    console.ask("load('main', 0.02)")
    wait_for(lambda: console.counters()["kafka"] >= 30, "the first dispatches to Kafka")
    scene.kafka.kill()
    wait_for(lambda: console.counters()["breaker"] >= 30, "dispatches that go to Celery at once")
    scene.kafka.start()
    confirmed = console.counters()["kafka"]
    wait_for(lambda: console.counters()["kafka"] >= confirmed + 30, "dispatches to Kafka again")
    load = console.ask("loads['main'].stop()")
    ids = set(load["ids"])
    assert load["errors"] == []
    # One waits for its time limit; the others do not wait with it.
    assert load["slowest"] < 1.5 + 2 + 1

    outbox = scene.rows("outbox")
    counted = console.counters()
    assert len(outbox) == counted["ambiguous"] > 0
    assert counted["celery"] == counted["breaker"] + counted["refused"]
    assert counted["celery"] + counted["kafka"] == len(ids)
    relay = scene.project.relay()
    scene.wait_until_ended(ids)
    wait_for(lambda: not scene.rows("outbox"), "an empty outbox")
    scene.wait_until_committed()
    assert worker.process.poll() is None

    published = Counter(task_id for task_id, _ in scene.records(scene.topic))
    assert {task_id for task_id, count in published.items() if count > 1} <= outbox
    for task_id, where in scene.runs(ids).items():
        expected = published[task_id] or 1
        assert len(where) == expected or LOST in worker.output(), (task_id, where)
    assert scene.sides(ids)["celery"] == counted["celery"]
    assert relay.terminate() == 0, relay.output()


def test_a_kafka_that_falls_silent_while_tasks_run_loses_nothing(
    scene: Scene, worker: Started, console: Console
) -> None:
    already_lost = worker.output().count(LOST)
    naps = console.dispatch("naps", 60, 0.05)
    wait_for(lambda: len(scene.runs(naps)) >= 5, "the first tasks")
    # Its end is the clock: the group's session, six seconds, is over by then.
    (clock,) = console.dispatch("naps", 1, 8)
    wait_for(lambda: scene.runs([clock]), "the long task's beginning")
    scene.kafka.pause()
    scene.wait_until_ended([clock, *naps])
    scene.kafka.resume()
    scene.wait_until_committed()
    more = console.dispatch("add", 20, 1, 2)
    scene.wait_until_ended(more)
    # The broker may find, when it is back, that the worker's session is over. It says so, and what was running or had
    # not been committed is delivered again; without that nothing runs twice.
    lost = worker.output().count(LOST) - already_lost
    counts = Counter({task_id: len(where) for task_id, where in scene.runs({clock, *naps, *more}).items()})
    assert counts.keys() == {clock, *naps, *more}
    assert max(counts.values()) <= 1 + lost
    assert {counts[task_id] for task_id in more} == {1}
    scene.wait_until_committed()
    assert worker.process.poll() is None
