"""What workers, relays and dispatchers tell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any, cast, get_args

import pytest

from taskbridge.adapters.monitoring import families
from taskbridge.adapters.monitoring.families import Family
from taskbridge.adapters.monitoring.samples import (
    SERVERS,
    Distribution,
    Pending,
    Sample,
    of_dispatch,
    of_losses,
    of_relay,
    of_worker,
)
from taskbridge.dispatch import Counting
from taskbridge.relay.loop import Relay, Totals
from taskbridge.worker.snapshot import DURATION_BOUNDS, PartitionState, Run, Snapshot


def values(samples: Iterable[Sample]) -> dict[tuple[str, ...], Any]:
    """Return values by name and labels, after a look whether they fit their family."""
    found: dict[tuple[str, ...], Any] = {}
    for family, labels, value in samples:
        assert len(labels) == len(family.labels), family.name
        assert isinstance(value, Distribution) == (family.kind == "histogram"), family.name
        key = (family.name, *labels)
        assert key not in found, f"{key} is told twice"
        found[key] = value
    return found


def snapshot() -> Snapshot:
    return Snapshot(
        finished=12,
        runs={("a", "success"): Run(7, 1.5), ("a", "failure"): Run(1, 0.5), ("b", "success"): Run(2, 3.0)},
        durations=(9, *[0] * (len(DURATION_BOUNDS) - 1), 1),
        executors={"starting": 0, "idle": 1, "busy": 1},
        deaths={"lost": 1},
        dead_letters={"worker_lost": 1, "of_a_later_release": 1},
        partitions=(PartitionState(0, 5, 1.5, True), PartitionState(1, None, 0.0, False)),
        busy=0.25,
    )


def test_a_worker() -> None:
    found = values(of_worker("orders", "live", True, snapshot()))
    own = ("orders", "live")
    assert {name for name, *_ in found} == {family.name for family in families.WORKER}
    assert found["taskbridge_worker_joined", *own] == 1.0
    assert found["taskbridge_worker_tasks_total", *own, "a", "failure"] == 1
    assert found["taskbridge_worker_run_seconds_total", *own, "a"] == 2.0
    assert found["taskbridge_worker_partitions", *own] == 2.0
    assert found["taskbridge_worker_paused_partitions", *own] == 1.0
    assert found["taskbridge_worker_lag_records", *own, "0"] == 5
    assert ("taskbridge_worker_lag_records", *own, "1") not in found, "what is not known is not zero"
    assert found["taskbridge_worker_seconds_behind", *own, "0"] == 1.5
    assert found["taskbridge_worker_busy_ratio", *own] == 0.25
    duration = found["taskbridge_worker_task_duration_seconds", *own]
    assert duration.buckets[0] == (0.001, 9)
    assert duration.buckets[-1] == (float("inf"), 10)
    assert duration.total == 5.0


def test_a_worker_that_has_done_nothing_tells_of_each_way_to_fail() -> None:
    found = values(of_worker("orders", "live", False, Snapshot()))
    dead = {labels[-1]: value for (name, *labels), value in found.items() if name.endswith("dead_letters_total")}
    assert dead == dict.fromkeys(
        ("malformed", "unknown_task", "rejected", "worker_lost", "deliveries_exceeded", "unrecorded"), 0
    )
    assert found["taskbridge_worker_executor_deaths_total", "orders", "live", "timeout"] == 0
    assert found["taskbridge_worker_joined", "orders", "live"] == 0.0


class Standing:
    """What is asked of a relay."""

    def __init__(self) -> None:
        self.totals = Totals(celery=3, kafka=4)
        self.failures = Counter({"the database": 2})
        self.trouble = {"Kafka": "it did not answer"}


def test_a_relay() -> None:
    pending = [Pending("delayed", "orders", 10, 0.0), Pending("outbox", "orders", 2, 7.5)]
    found = values(of_relay("default", cast(Relay, Standing()), pending))
    assert {name for name, *_ in found} == {family.name for family in families.RELAY}
    assert found["taskbridge_relay_messages_total", "default", "kafka"] == 4
    assert found["taskbridge_relay_pending_rows", "default", "delayed", "orders"] == 10
    assert found["taskbridge_relay_oldest_seconds", "default", "outbox", "orders"] == 7.5
    failures = {labels[-1]: value for (name, *labels), value in found.items() if name.endswith("failures_total")}
    assert failures == {"database": 2, "kafka": 0, "celery": 0, "fences": 0}
    trouble = {labels[-1]: value for (name, *labels), value in found.items() if name.endswith("trouble")}
    assert trouble == {"database": 0.0, "kafka": 1.0, "celery": 0.0, "fences": 0.0}
    assert len(SERVERS) == 4


def test_a_dispatcher_tells_of_everything_that_it_counts() -> None:
    counts = {"orders": {what: 10 + number for number, what in enumerate(get_args(Counting))}}
    found = values(of_dispatch(["orders", "fraud"], counts))
    mine = [value for (_, service, *_), value in found.items() if service == "orders"]
    assert sorted(mine) == sorted(counts["orders"].values())
    assert {value for (_, service, *_), value in found.items() if service == "fraud"} == {0}
    assert found["taskbridge_dispatch_messages_total", "orders", "kafka"] == counts["orders"]["kafka"]
    assert found["taskbridge_dispatch_copies_total", "orders", "lost"] == counts["orders"]["copy_lost"]
    assert found["taskbridge_dispatch_detours_total", "orders", "breaker"] == counts["orders"]["breaker"]
    assert {name for name, *_ in found} == {family.name for family in families.DISPATCH} - {families.LOST.name}


def test_losses() -> None:
    assert values(of_losses(["shop.observations"], {"shop.orders.shadow": 2})) == {
        ("taskbridge_lost_records_total", "shop.observations"): 0,
        ("taskbridge_lost_records_total", "shop.orders.shadow"): 2,
    }


@pytest.mark.parametrize("family", families.FAMILIES, ids=lambda family: family.name)
def test_names_are_those_of_the_field(family: Family) -> None:
    assert family.name.startswith("taskbridge_")
    assert family.name.endswith("_total") == (family.kind == "counter")
    assert family.meaning.endswith(".")
    assert [one.name for one in families.FAMILIES].count(family.name) == 1
