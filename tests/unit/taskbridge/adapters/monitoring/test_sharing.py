"""The counts of several processes in one answer."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from multiprocessing import current_process, get_context
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from taskbridge.adapters.monitoring import families, sharing
from taskbridge.adapters.monitoring.exposition import exposed
from taskbridge.adapters.monitoring.samples import Sample, of_dispatch
from taskbridge.adapters.monitoring.sharing import AllProcesses, SharedCounts
from taskbridge.dispatch import Counters
from tests.project.harness import wait_for


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    monkeypatch.setattr(sharing, "WRITE_INTERVAL", 0.01)
    return str(tmp_path)


def sums(folder: str) -> dict[tuple[str, str], float]:
    """Return what is not zero, by name and the label beside the service."""
    body, _ = exposed([AllProcesses(folder)], "")
    return {
        (sample.name, "".join(value for name, value in sample.labels.items() if name != "service")): sample.value
        for metric in text_string_to_metric_families(body.decode())
        for sample in metric.samples
        if sample.value
    }


def count_in_a_child(counters: Counters, end: Event) -> None:
    """Count in a forked process, and end as Celery's do: without a word to what is registered for the end."""
    counters.add("orders", "kafka")
    counters.add("orders", "kafka")
    end.wait(60)
    os._exit(0)


def test_processes_are_added_up_also_those_that_were_forked_and_have_ended(folder: str) -> None:
    counters = Counters()
    shared = SharedCounts(lambda: of_dispatch(["orders"], counters.snapshot()))
    counters.add("orders", "kafka", "copy_sent")
    shared.write()
    context = get_context("fork")
    end = context.Event()
    children = [context.Process(target=count_in_a_child, args=(counters, end)) for _ in range(2)]
    for child in children:
        child.start()
    kafka, copies = ("taskbridge_dispatch_messages_total", "kafka"), ("taskbridge_dispatch_copies_total", "sent")
    wait_for(lambda: sums(folder) == {kafka: 5.0, copies: 1.0}, "the counts of both children")
    end.set()
    for child in children:
        child.join(60)
    counters.add("orders", "kafka")
    shared.write()
    assert sums(folder) == {kafka: 6.0, copies: 1.0}


def test_an_executor_goes_on_where_the_one_before_it_ended(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(current_process(), "name", "executor-2")
    for _ in range(3):
        counters = Counters()
        shared = SharedCounts(lambda counters=counters: of_dispatch(["orders"], counters.snapshot()))
        counters.add("orders", "kafka")
        shared.write()
        counters.add("orders", "kafka")
        shared.close()
    assert sums(folder) == {("taskbridge_dispatch_messages_total", "kafka"): 6.0}
    assert [path.name for path in Path(folder).iterdir()] == [f"counter_{os.getppid()}-executor-2-taskbridge.db"]


def test_a_fork_waits_while_counts_are_written(folder: str) -> None:
    reading, go_on, forked = threading.Event(), threading.Event(), threading.Event()
    first = threading.Event()

    def read() -> Iterator[Sample]:
        if first.is_set() and threading.current_thread().name == "writer":
            reading.set()
            assert go_on.wait(60)
        yield Sample(families.LOST, ("shop.observations",), 1)

    shared = SharedCounts(read)
    first.set()
    writer = threading.Thread(target=shared.write, name="writer")
    writer.start()
    assert reading.wait(60)

    def fork() -> None:
        child = get_context("fork").Process(target=int)
        child.start()
        forked.set()
        child.join(60)

    forking = threading.Thread(target=fork)
    forking.start()
    assert not forked.wait(0.2)
    go_on.set()
    assert forked.wait(60)
    forking.join(60)
    writer.join(60)


def test_a_folder_that_is_not_there_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path / "gone"))
    monkeypatch.setattr(sharing, "WRITE_INTERVAL", 0.001)
    before = set(threading.enumerate())
    shared: Any = SharedCounts(lambda: [Sample(families.LOST, ("shop.observations",), 1)])
    [thread] = set(threading.enumerate()) - before
    thread.join(60)
    assert [record.getMessage() for record in caplog.records] == [
        f"metrics cannot be written to the folder of PROMETHEUS_MULTIPROC_DIR:"
        f" [Errno 2] No such file or directory: '{tmp_path}/gone/counter_{os.getpid()}-taskbridge.db'"
    ]
    with pytest.raises(OSError, match="No such file"):
        shared.write()
