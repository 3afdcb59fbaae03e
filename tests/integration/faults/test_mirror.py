"""In `mirror` Celery does the work, so whatever happens to Kafka is no concern of a caller's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.faults.scene import Scene
from tests.project.harness import Console, wait_for

# Small, so that copies are lost at once rather than after the client's time limit.
SETTINGS = {"BRIDGED_COPY_BUFFER": "20"}

pytestmark = pytest.mark.services


@pytest.fixture(scope="module")
def console(scene: Scene) -> Iterator[Console]:
    """A process that dispatches to a Celery worker, with copies to Kafka."""
    scene.move("mirror")
    scene.project.celery_worker()
    return scene.project.console()


@pytest.mark.parametrize("fault", ["killed", "silent"])
def test_without_kafka_callers_notice_nothing_and_lost_copies_are_counted(
    scene: Scene, console: Console, fault: str
) -> None:
    sent: set[str] = set()

    def copies_flow() -> bool:
        # A copy takes a moment, and one of those before may be lost.
        sent.update(console.dispatch("add", 1, 1, 2))
        return not sent.isdisjoint(task_id for task_id, _ in scene.records(f"{scene.topic}.shadow"))

    wait_for(copies_flow, "copies of dispatches", interval=0.2)
    counted = console.counters()
    if fault == "killed":
        scene.kafka.kill()
    else:
        scene.kafka.pause()

    during = console.dispatch("add", 60, 1, 2)
    scene.wait_until_ended(during)

    assert set(scene.runs(during)) == set(during)
    assert set(map(len, scene.runs(during).values())) == {1}
    assert max(during.values()) < 1.0, "a dispatch waited for Kafka"
    grown = console.counters() - counted
    assert grown["celery"] == 60
    assert grown["copy_lost"] >= 20
    assert grown["copy_sent"] + grown["copy_lost"] == 60

    scene.kafka.resume()
    scene.kafka.start()

    sent.clear()
    wait_for(copies_flow, "copies of dispatches again", interval=0.2)
