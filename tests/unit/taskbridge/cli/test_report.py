from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from taskbridge.cli.report import Duration, Moment, report
from taskbridge.comparison import Fold
from taskbridge.cutover import Flag, Stage
from taskbridge.exceptions import ConfigurationError, StoreUnavailable
from taskbridge.observation import Batch, CopyRow, DispatchRow, RunRow
from taskbridge.settings import Settings

NOW = 1_700_000_000.0
TASK = "shop.orders.tasks.a_name_that_is_rather_long_for_a_column_of_a_table"


class FakeLog:
    """An observation log that holds what the test says."""

    batches: tuple[Batch, ...] = ()
    malformed = 0
    since: float | None = None

    def __init__(self, _: Settings, progress: Callable[[int, int], None]) -> None:
        self.progress = progress

    def read_all(self, services: list[str], since: float | None) -> Iterator[Batch]:
        type(self).since = since
        self.progress(0, 5_000)
        yield from (batch for batch in self.batches if batch.service in services)


def dispatch(**fields: Any) -> DispatchRow:
    defaults = {"id": "a1", "retries": 0, "nesting": 0, "task": TASK, "key": "a1", "route": "celery", "epoch": 1}
    more = {"seq": 1, "at": NOW - 60, "copy": "none", "body": "b0d1", "stage": "live"}
    return DispatchRow(**defaults | more | fields)


def run(**fields: Any) -> RunRow:
    defaults = {"id": "a1", "retries": 0, "nesting": 0, "task": TASK, "side": "celery", "outcome": "success"}
    return RunRow(**defaults | {"started": NOW - 59, "finished": NOW - 58} | fields)


class FakeStore:
    def __init__(self, *flags: Flag) -> None:
        self.flags = flags

    def flags_since(self, _: int) -> tuple[Flag, ...]:
        return self.flags


class DeadStore:
    def flags_since(self, _: int) -> tuple[Flag, ...]:
        raise StoreUnavailable("the database `default` did not answer within 0.2 s")


class Miscounting(Fold):
    """A fold that believes in one dispatch more than it kept."""

    def __init__(self, service: str, task: str | None) -> None:
        super().__init__(service, task)
        self.dispatched += 1


@pytest.fixture
def bridge(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    services = {"orders": {"tasks": ["shop.orders.*"]}, "payments": {"tasks": ["shop.payments.*"]}}
    settings = Settings.from_mapping({"services": services}, {"KAFKA_BOOTSTRAP_SERVERS": "localhost:9"})
    wired = SimpleNamespace(settings=settings, store=FakeStore(Flag("orders", Stage.LIVE, 1000, 2, 2)))
    monkeypatch.setattr("taskbridge.cli.context.load_bridge", lambda _: wired)
    monkeypatch.setattr("taskbridge.cli.report.KafkaObservationLog", FakeLog)
    monkeypatch.setattr("taskbridge.cli.report.time.time", lambda: NOW)
    return wired


@pytest.fixture
def observed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets what the log holds of orders."""

    def hold(*rows: DispatchRow | RunRow | CopyRow) -> None:
        kinds = {DispatchRow: "dispatch", RunRow: "run", CopyRow: "copy"}
        batches = tuple(Batch(kinds[type(row)], "orders", "web:1:aa", (row,)) for row in rows)
        monkeypatch.setattr(FakeLog, "batches", batches)

    return hold


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(report, arguments)


@pytest.mark.parametrize(
    ("rows", "verdict", "status"),
    [
        ((dispatch(), run()), "AGREE", 0),
        ((dispatch(),), "DISAGREE", 1),
        ((), "INSUFFICIENT", 3),
        ((dispatch(at=NOW - 5),), "INSUFFICIENT", 3),
    ],
)
def test_the_verdict_comes_first_and_decides_the_exit_status(
    bridge: SimpleNamespace, observed: Callable[..., None], rows: tuple[Any, ...], verdict: str, status: int
) -> None:
    observed(*rows)
    result = invoke("orders")
    assert result.exit_code == status
    lines = result.stdout.splitlines()
    assert lines[1].startswith(f"{verdict}: ")
    assert any(line.startswith("next      taskbridge ") for line in lines[:6])
    assert any(line.startswith("rollback  taskbridge cutover orders mirror") for line in lines[:6])


def test_what_cannot_add_up_ends_with_a_status_of_its_own(
    bridge: SimpleNamespace, observed: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    observed(dispatch(), run())
    monkeypatch.setattr("taskbridge.cli.report.Fold", Miscounting)
    result = invoke("orders", "--json")
    assert result.exit_code == 4
    assert json.loads(result.stdout)["invalid"] is True


def test_an_agreeing_service_is_led_to_its_next_rung(bridge: SimpleNamespace, observed: Callable[..., None]) -> None:
    observed(dispatch(), run())
    assert "next      taskbridge cutover orders live --percent 25" in invoke("orders").stdout


def test_without_the_database_the_report_stands(bridge: SimpleNamespace, observed: Callable[..., None]) -> None:
    bridge.store = DeadStore()
    observed(dispatch(), run())
    result = invoke("orders")
    assert result.exit_code == 0
    assert "the present stage is not known: the database `default` did not answer" in result.stderr


def test_json_is_one_line_and_the_file_holds_the_same(
    bridge: SimpleNamespace, observed: Callable[..., None], tmp_path: Path
) -> None:
    observed(dispatch(), run())
    target = tmp_path / "report.json"
    result = invoke("orders", "--json", "--output", str(target))
    assert result.exit_code == 0
    assert result.stdout.count("\n") == 1
    assert target.read_text() == result.stdout
    assert json.loads(result.stdout)["schema"] == "taskbridge.report/1"


def test_a_file_that_cannot_be_written_is_named(
    bridge: SimpleNamespace, observed: Callable[..., None], tmp_path: Path
) -> None:
    observed(dispatch(), run())
    result = invoke("orders", "--output", str(tmp_path / "absent" / "report.json"))
    assert isinstance(result.exception, ConfigurationError)
    assert "absent/report.json: No such file or directory" in str(result.exception)


def test_output_fits_80_columns_without_colours(
    bridge: SimpleNamespace, observed: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeLog, "malformed", 3)
    rows = [dispatch(id=f"{n:036}", seq=3 * n, fallback="refused", ambiguous=1) for n in range(1, 1500)]
    mirror = dispatch(id="m", copy="sent", stage="mirror", seq=2, task="shop.orders.tasks.other")
    observed(*rows, *(run(id=f"{n:036}", detail="ValueError") for n in range(1, 1200)), mirror, run(id="stranger"))
    bridge.store = FakeStore()
    result = invoke("orders")
    assert "\x1b" not in result.output
    assert max(map(len, result.stdout.splitlines())) <= 80
    for words in (
        "3 observation records could not be read",
        "could not be",
        "went to Celery instead",
        "Findings (20 of",
    ):
        assert words in result.stdout


def test_all_services_end_in_one_verdict(bridge: SimpleNamespace, observed: Callable[..., None]) -> None:
    observed(dispatch(), run())
    result = invoke("--all")
    assert result.exit_code == 3
    assert "INSUFFICIENT over all 2 services" in result.stdout


def test_a_pattern_looks_at_some_tasks_only(bridge: SimpleNamespace, observed: Callable[..., None]) -> None:
    observed(dispatch(), run(), dispatch(id="b", seq=2, task="shop.orders.tasks.lost"))
    assert invoke("orders").exit_code == 1
    result = invoke("orders", "--task", "*rather_long*")
    assert result.exit_code == 0
    assert "tasks *rather_long*" in " ".join(result.stdout.split())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "name at least one service (orders, payments), or say --all"),
        (("orders", "--all"), "name services or say --all, not both"),
        (("orders", "--since", "yesterday"), "'yesterday' is neither a duration (15m) nor an ISO time"),
        (("orders", "--horizon", "1w"), "'1w' is not a duration"),
        (("orders", "--limit", "-1"), "-1 is not in the range"),
    ],
)
def test_wrong_use_ends_in_status_2(bridge: SimpleNamespace, arguments: tuple[str, ...], words: str) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert words in result.stderr


def test_an_unknown_service_is_named_with_the_known_ones(bridge: SimpleNamespace) -> None:
    result = invoke("order")
    assert isinstance(result.exception, ConfigurationError)
    assert str(result.exception) == "there is no service 'order'; TASKBRIDGE names: orders, payments"


@pytest.mark.parametrize(
    ("text", "seconds"), [("30", 30.0), ("30s", 30.0), ("250ms", 0.25), ("1.5m", 90.0), ("2h", 7200.0), ("1d", 86400.0)]
)
def test_durations(text: str, seconds: float) -> None:
    assert Duration().convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["", "s", "-5s", "5 s", "5w", "five"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is not a duration"):
        Duration().convert(text, None, None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2025-01-31T12:00:00Z", datetime(2025, 1, 31, 12, tzinfo=UTC).timestamp()),
        ("2025-01-31T12:00:00+02:00", datetime(2025, 1, 31, 10, tzinfo=UTC).timestamp()),
        ("2025-01-31 12:00", datetime(2025, 1, 31, 12, tzinfo=UTC).timestamp()),
        ("15m", NOW - 900),
    ],
)
def test_moments(monkeypatch: pytest.MonkeyPatch, text: str, expected: float) -> None:
    monkeypatch.setattr("taskbridge.cli.report.time.time", lambda: NOW)
    assert Moment().convert(text, None, None) == expected


def test_the_log_is_read_from_the_moment_that_was_named(bridge: SimpleNamespace) -> None:
    invoke("orders", "--since", "15m")
    assert FakeLog.since == NOW - 900
