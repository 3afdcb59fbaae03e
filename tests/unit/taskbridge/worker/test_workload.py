"""How busy a worker is."""

from __future__ import annotations

from typing import cast

from taskbridge.worker.executors import Executor
from taskbridge.worker.workload import WINDOW, Workload


class Working:
    """An executor that has worked for so long since it was last asked."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def worked(self, now: float) -> float:
        return self.seconds


def measured(workload: Workload, now: float, *seconds: float) -> float | None:
    executors = []
    for worked in seconds:
        executor = Working()
        executor.seconds = worked
        executors.append(cast(Executor, executor))
    return workload.measure(now, executors)


def test_the_share_of_all_executors_time() -> None:
    workload = Workload(2, cpu=lambda: 0.0)
    assert measured(workload, 10.0, 0.0, 0.0) is None
    assert measured(workload, 11.0, 1.0, 0.5) == 0.75
    assert measured(workload, 12.0, 0.0, 0.0) == 0.38
    # One died and has not been replaced yet.
    assert measured(workload, 13.0, 1.0) == 0.42


def test_only_the_last_measurements_count() -> None:
    workload = Workload(1, cpu=lambda: 0.0)
    measured(workload, 0.0, 0.0)
    assert measured(workload, 1.0, 1.0) == 1.0
    shares = [measured(workload, 2.0 + number, 0.0) for number in range(WINDOW)]
    assert shares[0] == 0.5
    assert shares[-1] == 0.0


def test_a_supervisor_that_cannot_keep_up_is_busy_although_its_executors_are_not() -> None:
    spent = iter([5.0, 5.95])
    workload = Workload(4, cpu=lambda: next(spent))
    measured(workload, 0.0, 0.0, 0.0, 0.0, 0.0)
    assert measured(workload, 1.0, 0.2, 0.2, 0.2, 0.2) == 0.95


def test_a_supervisor_that_only_looks_whether_there_is_work_is_idle() -> None:
    spent = iter([5.0, 5.04, 5.08, 5.13])
    workload = Workload(1, cpu=lambda: next(spent))
    measured(workload, 0.0, 0.0)
    assert measured(workload, 1.0, 0.0) == 0.0
    assert measured(workload, 2.0, 0.02) == 0.01
    assert measured(workload, 2.5, 0.0) == 0.05


def test_never_more_than_all_of_it() -> None:
    workload = Workload(1, cpu=lambda: 0.0)
    measured(workload, 0.0, 0.0)
    assert measured(workload, 1.0, 1.001) == 1.0
