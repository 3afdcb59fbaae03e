"""Probes and scrapes of processes that do real work."""

from __future__ import annotations

import re
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from taskbridge.adapters.kafka.cluster import Cluster
from taskbridge.adapters.monitoring.families import DISPATCH, FAMILIES, RELAY, WORKER
from taskbridge.settings import KafkaSettings
from taskbridge.worker.tracker import busy_of
from tests.project.harness import Project, Started, wait_for

pytestmark = pytest.mark.services

ANYWHERE = ("--http", "127.0.0.1:0")


@pytest.fixture(scope="module")
def live(bridged: Project) -> Project:
    """The project with every message of `work` going to Kafka."""
    bridged.stand("work", "live", 10_000)
    return bridged


@pytest.fixture(autouse=True)
def _nothing_stays(bridged: Project) -> Iterator[None]:
    yield
    bridged.stop()


def ask(process: Started, path: str) -> tuple[int, str]:
    process.wait_for_output("health and metrics at http://")
    found = re.search(r"health and metrics at http://(\S+)", process.output())
    assert found is not None
    connection = HTTPConnection(found[1], timeout=60)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


class Scrape:
    """The metrics of a process at one moment."""

    def __init__(self, text: str) -> None:
        self.metrics = list(text_string_to_metric_families(text))
        self.names = {metric.name for metric in self.metrics}
        assert len(self.names) == len(self.metrics), "no metric is told in two pieces"

    def value(self, name: str, **labels: str) -> float:
        """Return the sum of a metric's samples with these labels."""
        return sum(
            sample.value
            for metric in self.metrics
            for sample in metric.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )


def scrape(process: Started) -> Scrape:
    status, text = ask(process, "/metrics")
    assert status == 200, text
    return Scrape(text)


def plain(families: Any) -> set[str]:
    return {family.name.removesuffix("_total") for family in families}


def test_a_worker_tells_what_it_does(live: Project) -> None:
    worker = live.kafka_worker(*ANYWHERE)
    wait_for(lambda: ask(worker, "/readyz") == (200, "ok\n"), "readiness")
    assert ask(worker, "/healthz") == (200, "ok\n")
    live.script(
        "for _ in range(20): tasks.add.delay(1, 2)\n"
        "for _ in range(3): tasks.fails.delay()\n"
        "tasks.parent.delay()\ntasks.kills_its_process.delay()\ntasks.rejects.delay()\n"
    )

    def done() -> bool:
        now = scrape(worker)
        dispatched = now.value("taskbridge_dispatch_messages_total", service="work", road="kafka")
        return (
            now.value("taskbridge_worker_records_total") == 27
            and dispatched == 1
            and not now.value("taskbridge_worker_lag_records")
        )

    wait_for(done, "26 tasks and the child of one")
    found = scrape(worker)
    assert found.names == plain(WORKER) | plain(DISPATCH)
    own = {"service": "work", "role": "live"}
    tasks = "taskbridge_worker_tasks_total"
    assert found.value(tasks, **own, task="bridged.tasks.add", outcome="success") == 20
    assert found.value(tasks, **own, task="bridged.tasks.fails", outcome="failure") == 3
    assert found.value("taskbridge_worker_task_duration_seconds_count", **own) == found.value(tasks)
    assert found.value("taskbridge_worker_dead_letters_total", **own, reason="worker_lost") == 1
    assert found.value("taskbridge_worker_dead_letters_total", **own, reason="rejected") == 1
    assert found.value("taskbridge_worker_executor_deaths_total", **own, cause="lost") == 1
    assert found.value("taskbridge_worker_partitions", **own) == 4
    assert found.value("taskbridge_worker_executors", **own) == 2
    assert found.value("taskbridge_worker_commits_total", **own) >= 1
    assert found.value("taskbridge_worker_seconds_behind", **own) == 0
    assert 0 <= found.value("taskbridge_worker_busy_ratio", **own) <= 1
    assert worker.terminate() == 0


def test_how_busy_a_worker_is_stands_beside_its_offsets(live: Project) -> None:
    worker = live.kafka_worker(*ANYWHERE)
    cluster = Cluster(KafkaSettings(live.environment["KAFKA_BOOTSTRAP_SERVERS"]))

    def committed() -> list[float]:
        group = f"{live.prefix}.work"
        found = [busy_of(one.metadata or "") for one in cluster.committed(group, group, 4).values()]
        return [busy for busy in found if busy is not None]

    live.script("for _ in range(60): tasks.naps.delay(0.2)\n")
    wait_for(lambda: scrape(worker).value("taskbridge_worker_busy_ratio") > 0.5, "a busy worker")
    wait_for(lambda: [busy > 0.4 for busy in committed()] == [True] * 4, "a busy worker in every partition")
    wait_for(lambda: committed() == [0.0] * 4, "an idle one")


def test_a_worker_without_a_partition_is_ready(live: Project) -> None:
    live.cli("topics", "elsewhere")
    workers = [live.kafka_worker(*ANYWHERE, processes=1, service="elsewhere") for _ in range(3)]
    wait_for(lambda: all(ask(worker, "/readyz")[0] == 200 for worker in workers), "readiness of all three")

    def partitions() -> list[float]:
        return sorted(scrape(worker).value("taskbridge_worker_partitions") for worker in workers)

    wait_for(lambda: partitions() == [0, 1, 1], "two partitions for three workers")
    assert [ask(worker, "/readyz")[0] for worker in workers] == [200] * 3


def test_a_relay_tells_what_waits(live: Project) -> None:
    relay = live.start("relay", "taskbridge.cli", "relay", *ANYWHERE)
    wait_for(lambda: ask(relay, "/readyz") == (200, "ok\n"), "readiness")
    assert ask(relay, "/healthz") == (200, "ok\n")
    live.script("tasks.add.apply_async((1, 2), countdown=3)\ntasks.add.apply_async((1, 2), countdown=3600)\n")
    sent = "taskbridge_relay_messages_total"
    wait_for(lambda: scrape(relay).value(sent, database="default", road="kafka") == 1, "the message that is due")
    found = scrape(relay)
    assert found.names == plain(RELAY) | {"taskbridge_lost_records"}
    assert found.value("taskbridge_relay_trouble") == 0
    assert relay.terminate() == 0
    # A relay counts when it is first asked.
    relay = live.start("relay", "taskbridge.cli", "relay", *ANYWHERE)
    found = scrape(relay)
    assert found.value("taskbridge_relay_pending_rows", table="delayed", service="work") == 1
    assert found.value("taskbridge_relay_pending_rows", table="outbox", service="work") == 0
    assert found.value("taskbridge_relay_oldest_seconds", table="delayed", service="work") == 0
    assert relay.terminate() == 0


VIEW = (
    "import django\ndjango.setup()\n"
    "from django.test import RequestFactory\n"
    "from taskbridge.contrib.django.metrics import metrics\n"
    "answer = metrics(RequestFactory().get('/metrics'))\n"
    "print(json.dumps([answer.status_code, answer.content.decode()]))\n"
)


def test_a_process_that_dispatches_tells_what_it_dispatched(live: Project) -> None:
    status, text = live.script("for _ in range(5): tasks.add.delay(1, 2)\n" + VIEW)
    found = Scrape(text)
    assert status == 200
    assert found.names == plain(DISPATCH)
    assert found.value("taskbridge_dispatch_messages_total", service="work", road="kafka") == 5


def test_with_a_shared_folder_any_process_tells_for_all(
    live: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(live.environment, "PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    for count in (2, 3):
        # A process that has ended, too.
        live.script(f"for _ in range({count}): tasks.add.delay(1, 2)\n" + VIEW)
    status, text = live.script(VIEW)
    found = Scrape(text)
    assert status == 200
    assert found.names == plain(DISPATCH)
    assert found.value("taskbridge_dispatch_messages_total", service="work", road="kafka") == 5
    monkeypatch.setitem(live.environment, "PROMETHEUS_MULTIPROC_DIR", str(tmp_path / "gone"))
    status, text = live.script(VIEW)
    assert (status, "No such file or directory" in text) == (503, True)


def test_a_process_beside_them_tells_for_all(live: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(live.environment, "PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    beside = live.start("metrics", "taskbridge.cli", "metrics", *ANYWHERE)
    celery = live.celery_worker()
    live.stand("work", "mirror")
    try:
        live.script("tasks.parent.delay()\n")
        name = "taskbridge_dispatch_messages_total"
        wait_for(
            lambda: scrape(beside).value(name, service="work", road="celery") == 2,
            "a dispatch here, and one in the Celery worker",
        )
        assert scrape(beside).names == plain(DISPATCH)
        assert celery.terminate() == 0
        assert scrape(beside).value(name, service="work", road="celery") == 2
    finally:
        live.stand("work", "live", 10_000)
    assert ask(beside, "/healthz") == (200, "ok\n")
    assert beside.terminate() == 0


def test_a_process_beside_them_needs_the_folder(live: Project) -> None:
    done = live.cli("metrics", *ANYWHERE, check=False)
    assert done.returncode == 2
    assert "error: PROMETHEUS_MULTIPROC_DIR is ''" in done.stderr


def test_every_metric_is_told_by_somebody() -> None:
    assert plain(FAMILIES) == plain(WORKER) | plain(RELAY) | plain(DISPATCH)


def test_an_address_that_is_taken_is_said_before_anything_starts(live: Project) -> None:
    done = live.cli("worker", "--service", "work", "--http", "127.0.0.1:http", check=False)
    assert done.returncode == 2
    assert "error: --http '127.0.0.1:http' is not HOST:PORT" in done.stderr
