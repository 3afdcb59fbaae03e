"""The database that holds flags and pending messages, while it is away."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.faults.scene import Scene
from tests.project.harness import Console, wait_for

SETTINGS = {"BRIDGED_FLAG_STALE_AFTER": "3"}

pytestmark = pytest.mark.services


@pytest.fixture(scope="module")
def console(scene: Scene) -> Iterator[Console]:
    """A process that dispatches to our worker; Celery's stands beside it."""
    scene.move("live")
    scene.project.celery_worker()
    scene.project.kafka_worker()
    return scene.project.console()


@pytest.mark.parametrize("fault", ["killed", "silent"])
def test_dispatch_goes_by_the_flags_it_knows_and_then_by_the_floor(scene: Scene, console: Console, fault: str) -> None:
    before = console.dispatch("add", 5, 1, 2)
    scene.wait_until_ended(before)
    assert scene.sides(before) == {"kafka": 5}
    counted = console.counters()
    if fault == "killed":
        scene.postgres.kill()
    else:
        scene.postgres.pause()

    known = console.dispatch("add", 5, 1, 2)
    floor: dict[str, float] = {}

    def at_the_floor() -> bool:
        floor.update(console.dispatch("add", 1, 1, 2))
        return (console.counters() - counted)["kafka"] < 5 + len(floor)

    wait_for(at_the_floor, "the floor stage", interval=0.1)
    scene.wait_until_ended({*known, *floor})
    assert scene.sides(known) == {"kafka": 5}
    assert max([*known.values(), *floor.values()]) < 1.0, "a dispatch waited for the database"
    counts = scene.sides(floor)
    # At the floor, `off`, Celery has it all and the bridge does not even count.
    assert counts["celery"] >= 1
    assert counts.total() == len(floor)

    scene.postgres.resume()
    scene.postgres.start()
    kafka = console.counters()["kafka"]
    wait_for(lambda: console.dispatch("add", 1, 1, 2) and console.counters()["kafka"] > kafka, "Kafka again")


def test_what_is_to_wait_is_refused_when_there_is_nowhere_to_wait(scene: Scene, console: Console) -> None:
    kafka = console.counters()["kafka"]
    wait_for(lambda: console.dispatch("add", 1, 1, 2) and console.counters()["kafka"] > kafka, "a fresh flag")
    records, delayed = len(scene.records(scene.topic)), scene.rows("delayed")
    scene.postgres.kill()
    error = console.error("dispatch('add', 1, 1, 2, countdown=30)")
    assert error.startswith("OperationalError: database 'default' (PostgreSQL) cannot be used: ")
    assert "\n" not in error
    scene.postgres.start()
    # Neither side has it: the caller was told, and may try again.
    assert (scene.queued(), len(scene.records(scene.topic)), scene.rows("delayed")) == (0, records, delayed)


def test_the_relay_waits_for_the_database_and_says_so_once(scene: Scene, console: Console) -> None:
    kafka = console.counters()["kafka"]
    wait_for(lambda: console.dispatch("add", 1, 1, 2) and console.counters()["kafka"] > kafka, "a fresh flag")
    relay = scene.project.relay()
    first = console.dispatch("add", 3, 1, 2, countdown=0.2)
    scene.wait_until_ended(first)
    later = console.dispatch("add", 3, 1, 2, countdown=1)
    scene.postgres.kill()
    relay.wait_for_output("the database does not answer")
    scene.postgres.start()
    relay.wait_for_output("the database answers again")
    scene.wait_until_ended(later)
    assert {len(where) for where in scene.runs([*first, *later]).values()} == {1}
    assert relay.terminate() == 0
    said = [line for line in relay.output().splitlines() if "the database" in line]
    assert len(said) == 2, relay.output()
    assert "Traceback" not in relay.output()
