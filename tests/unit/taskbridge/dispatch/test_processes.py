"""Names and numbers of processes, also across forks, and warnings that do not flood."""

from __future__ import annotations

import logging
import os
import re
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from multiprocessing.connection import Connection

import pytest

from taskbridge.dispatch import Counters, Numbering, ThrottledLog


def test_numbers_run_per_service_from_one() -> None:
    numbering = Numbering()
    assert [numbering.next("orders")[1] for _ in range(3)] == [1, 2, 3]
    assert numbering.next("payments") == (numbering.source, 1)
    assert re.fullmatch(rf"[A-Za-z0-9._-]+:{os.getpid()}:[0-9a-f]{{8}}", numbering.source)
    assert Numbering().source != numbering.source


def test_threads_share_numbers_without_gap_or_repeat() -> None:
    numbering = Numbering()
    with ThreadPoolExecutor(8) as pool:
        numbers = list(pool.map(lambda _: numbering.next("orders")[1], range(2_000)))
    assert sorted(numbers) == list(range(1, 2_001))


def _report(numbering: Numbering, counters: Counters, pipe: Connection) -> None:
    pipe.send((numbering.next("orders"), counters.get("orders", "celery")))
    pipe.close()


def test_a_forked_child_begins_anew() -> None:
    numbering, counters = Numbering(), Counters()
    counters.add("orders", "celery")
    numbering.next("orders")
    receiver, sender = get_context("fork").Pipe(duplex=False)
    child = get_context("fork").Process(target=_report, args=(numbering, counters, sender))
    # The lock is held at the fork, as by a thread that the child will not have.
    with counters._lock:
        child.start()
    assert receiver.poll(10)
    (source, number), counted = receiver.recv()
    child.join(60)
    assert (number, counted, child.exitcode) == (1, 0, 0)
    assert source != numbering.source
    assert f":{child.pid}:" in source
    assert numbering.next("orders")[1] == 2


def test_a_cause_is_said_once_a_minute_with_the_number_held_back(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    throttled = ThrottledLog(logging.getLogger("taskbridge.test"), clock=lambda: now[0])
    with caplog.at_level(logging.WARNING):
        for _ in range(5):
            throttled.warning("full", "no room for %s", "orders")
        throttled.warning("other", "another cause")
        now[0] = 61.0
        throttled.warning("full", "no room for %s", "orders")
        now[0] = 122.0
        throttled.warning("full", "no room for %s", "orders")
    assert [record.getMessage() for record in caplog.records] == [
        "no room for orders",
        "another cause",
        "no room for orders (and 4 more times since this was last said)",
        "no room for orders",
    ]
