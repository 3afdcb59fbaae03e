"""How contestants take turns, and what becomes of their figures; without servers."""

from __future__ import annotations

import random
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from benchmarks import dispatch, relay, worker
from benchmarks.grounds import BenchmarkFailedError, cpu_seconds, wait_for
from benchmarks.measure import Findings


def test_dispatching_takes_turns_in_blocks() -> None:
    said: list[str] = []
    tasks = {name: SimpleNamespace(delay=lambda name=name: said.append(name)) for name in ("one", "two")}
    bridge: Any = None
    contest = dispatch.Contest(tasks, lambda: said.append("settle"), lambda: said.append("empty"), bridge)
    timings = contest.round({"first": "one", "second": "two"}, 3, random.Random(1))
    assert {name: len(timing.calls) for name, timing in timings.items()} == {
        "first": 3 * dispatch.BLOCK,
        "second": 3 * dispatch.BLOCK,
    }
    assert said.count("settle") == said.count("empty") == 6
    calls = dispatch.WARM_UP + dispatch.BLOCK
    block = said[: calls + 2]
    assert len(set(block[:calls])) == 1
    assert block[calls:] == ["settle", "empty"]


def test_dispatching_is_compared_within_a_round() -> None:
    findings = Findings("dispatch", (), {})
    timings = {"plain": dispatch.Timings([1e-4] * 100, 0.02), "off": dispatch.Timings([2e-4] * 100, 0.03)}
    dispatch._note(findings, timings, ["off"])
    assert findings.rounds["ratio_off_p50"] == pytest.approx([2.0])
    assert findings.rounds["ratio_off_p99"] == pytest.approx([2.0])
    assert findings.rounds["us_plain_p50"] == pytest.approx([100.0])
    assert findings.rounds["cpu_us_off"] == pytest.approx([300.0])


def test_the_worker_is_compared_with_the_better_celery() -> None:
    findings = Findings("worker", (), {})
    speeds = {"celery": 1_000.0, "celery_tuned": 2_000.0, "taskbridge": 30_000.0, "limit": 40_000.0}
    worker._note(findings, {name: worker.Window(speed, {"executors": 7.0}) for name, speed in speeds.items()})
    assert findings.rounds["ratio_worker_vs_celery_redis"] == [15.0]
    assert findings.rounds["of_limit"] == [0.75]
    assert findings.rounds["tasks_per_second_celery"] == [1_000.0]
    assert findings.rounds["cpu_us_per_task_taskbridge_executors"] == [7.0]


def test_the_relay_is_compared_with_the_loop_on_the_same_table() -> None:
    findings = Findings("relay", (), {})
    speeds = {"delayed": 5_000.0, "outbox": 6_000.0, "loop": 12_000.0}
    relay._note(findings, {name: relay.Turn(speed, 100.0, 0.5) for name, speed in speeds.items()})
    assert findings.rounds["ratio_relay_vs_loop"] == [0.5]
    assert findings.rounds["rows_per_second_delayed"] == [5_000.0]
    assert findings.rounds["cpu_us_per_row_loop"] == [100.0]
    assert findings.rounds["core_used_outbox"] == [0.5]


def test_waiting_ends_with_what_did_not_come() -> None:
    looks = []
    with pytest.raises(BenchmarkFailedError, match=r"the moon did not come within 0\.02 s"):
        wait_for(lambda: False, "the moon", 0.02, lambda: looks.append(1))
    assert looks


def test_cpu_time_grows_with_work() -> None:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy:
        try:
            wait_for(lambda: cpu_seconds(busy.pid) >= 0.05, "CPU time", 30.0, lambda: None)
        finally:
            busy.kill()


@pytest.mark.parametrize("command", [worker.main, dispatch.main, relay.main])
def test_the_help_has_examples(command: worker.click.Command) -> None:
    shown = CliRunner().invoke(command, ["--help"])
    assert shown.exit_code == 0
    assert "Examples:" in shown.output
    assert "--quick" in shown.output
