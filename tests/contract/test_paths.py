"""
Every way of sending a task: what the task sees is the same without the bridge, mirrored, and from Kafka.

The paths are in `tests/project/bridged/paths`; what a request may differ in, in `HIDDEN` of `bridged/sight.py`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.project.bridged.paths import PATHS
from tests.project.harness import Project

# The first test goes all paths, three times over.
pytestmark = pytest.mark.timeout(900)

ROWS = [*PATHS, *(f"{name} (protocol 1)" for name, path in PATHS.items() if path.again)]

ACCEPTS = ["json", "yaml", "msgpack", "pickle"]

Seen = dict[str, Any]


@pytest.fixture(scope="module")
def queues(bridged: Project) -> str:
    bridged.environment["BRIDGED_ACCEPTS"] = json.dumps(ACCEPTS)
    return f"--queues={bridged.prefix},{bridged.prefix}.special"


@pytest.fixture(scope="module")
def plain(bridged: Project, queues: str) -> Seen:
    """What is seen without the bridge."""
    bridged.environment["BRIDGED_PLAIN"] = "yes"
    worker = bridged.celery_worker(queues, concurrency=4)
    seen: Seen = json.loads(bridged.run("bridged.walk", timeout=600).stdout)
    worker.terminate()
    del bridged.environment["BRIDGED_PLAIN"]
    return seen


@pytest.fixture(scope="module")
def mirrored(bridged: Project, queues: str, plain: Seen) -> Seen:
    """What is seen while Celery runs everything and Kafka gets copies; the worker stays for what may fall back."""
    bridged.stand("work", "mirror")
    bridged.celery_worker(queues, concurrency=4)
    seen: Seen = json.loads(bridged.run("bridged.walk", timeout=600).stdout)
    return seen


@pytest.fixture(scope="module")
def live_walk(bridged: Project, mirrored: Seen) -> tuple[Seen, list[dict[str, Any]]]:
    """What is seen while the service is live with all of its keys, and the journal of all tasks that ran."""
    bridged.stand("work", "live", 10_000)
    before = len(bridged.journal())
    worker, relay = bridged.kafka_worker(processes=4), bridged.relay()
    seen: Seen = json.loads(bridged.run("bridged.walk", timeout=600).stdout)
    assert worker.terminate() == 0, worker.output()
    assert relay.terminate() == 0, relay.output()
    return seen, bridged.journal()[before:]


@pytest.fixture(scope="module")
def live(live_walk: tuple[Seen, list[dict[str, Any]]]) -> Seen:
    return live_walk[0]


def differences(one: Any, other: Any, where: str) -> Iterator[str]:
    """Yield what differs, each with its place: the whole of two requests is more than one can look through."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted({*one, *other}):
            yield from differences(one.get(key, "(absent)"), other.get(key, "(absent)"), f"{where}.{key}")
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for number, (left, right) in enumerate(zip(one, other, strict=True)):
            yield from differences(left, right, f"{where}[{number}]")
    elif type(one) is not type(other) or one != other:
        yield f"{where}: {one!r} became {other!r}"


@pytest.mark.parametrize("row", ROWS)
def test_what_a_task_sees(plain: Seen, mirrored: Seen, live: Seen, row: str) -> None:
    path = PATHS[row.removesuffix(" (protocol 1)")]
    expected = plain[row]
    assert len(expected["saw"]) == path.runs
    assert "Error: " not in str(expected["outcome"])[:40], "the path itself failed"
    assert list(differences(expected, mirrored[row], "mirrored")) == []
    for part in ("saw", "outcome"):
        assert list(differences(expected[part], live[row][part], f"live.{part}")) == []
    assert live[row]["sides"] == ([path.side] if path.runs else [])


def test_celery_runs_nothing_but_what_falls_back(live_walk: tuple[Seen, list[dict[str, Any]]]) -> None:
    ran = [(line["task"], line["worker"].partition("@")[0]) for line in live_walk[1] if line["what"] == "prerun"]
    falling_back = sum(path.runs for path in PATHS.values() if path.side == "celery")
    assert [task for task, worker in ran if worker == "celery"] == ["bridged.witnesses.seen"] * falling_back
    # Celery's own tasks come along: those of a canvas, and the one that ends a replacement by a group.
    own = {task for task, worker in ran if worker == "taskbridge-work" and task.startswith("celery.")}
    assert own == {"celery.accumulate", "celery.map", "celery.starmap"}
