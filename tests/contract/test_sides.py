"""The same tasks, on Celery's worker and on ours: what they see, and what is seen of them, must be the same."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.project.harness import ROOT, Project

CASES = re.findall(r"^@case\ndef (\w+)", (ROOT / "tests/project/bridged/cases.py").read_text(), re.MULTILINE)


@pytest.fixture(scope="module")
def on_celery(bridged: Project) -> dict[str, Any]:
    """What the cases see while every message goes to Celery."""
    worker = bridged.celery_worker(concurrency=3)
    seen: dict[str, Any] = json.loads(bridged.run("bridged.cases").stdout)
    worker.terminate()
    return seen


@pytest.fixture(scope="module", params=["consumer", "classic"])
def on_kafka(bridged: Project, on_celery: dict[str, Any], request: pytest.FixtureRequest) -> Iterator[dict[str, Any]]:
    """What the cases see while every message goes to Kafka, with either group protocol; no Celery worker runs."""
    bridged.environment["BRIDGED_GROUP_PROTOCOL"] = request.param
    bridged.cli("cutover", "work", "mirror")
    bridged.cli("cutover", "work", "live", "--percent", "100", "--override", "--reason", "a test")
    worker = bridged.kafka_worker(processes=3)
    relay = bridged.relay()
    yield json.loads(bridged.run("bridged.cases").stdout)
    assert worker.terminate() == 0, worker.output()
    assert relay.terminate() == 0, relay.output()


def test_every_case_has_a_name() -> None:
    assert len(CASES) > 30


@pytest.mark.parametrize("case", CASES)
def test_both_sides_agree(on_celery: dict[str, Any], on_kafka: dict[str, Any], case: str) -> None:
    assert "Error: " not in str(on_celery[case])[:40], f"the case itself failed: {on_celery[case]}"
    assert on_kafka[case] == on_celery[case]


def test_the_kafka_side_ran_on_kafka(bridged: Project, on_kafka: dict[str, Any]) -> None:
    workers = bridged.script("print(json.dumps([line.get('worker') for line in journal.read()]))")
    mine = [worker for worker in workers if worker and worker.startswith("taskbridge-work@")]
    assert len(mine) > len(CASES)
