"""`taskbridge prune`, with a ledger that only counts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from taskbridge.cli.prune import prune
from taskbridge.exceptions import ConfigurationError
from taskbridge.settings import ServiceSettings
from taskbridge.testing import settings


class FakeLedger:
    """Seven rows are old enough."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []

    def expired(self, age: float) -> int:
        self.asked.append(("expired", age))
        return 7

    def prune(self, age: float, batch: int) -> Iterator[int]:
        self.asked.append(("prune", age, batch))
        yield from (3, 3, 1, 0)


@pytest.fixture
def ledger(monkeypatch: pytest.MonkeyPatch) -> FakeLedger:
    ledger = FakeLedger()
    short = ServiceSettings("orders", tasks=("orders.*",), retention=86400.0)
    long = ServiceSettings("mails", tasks=("mails.*",), retention=20 * 86400.0)
    bridge = SimpleNamespace(ledger=ledger, settings=settings(short, long))
    monkeypatch.setattr("taskbridge.cli.context.load_bridge", lambda _: bridge)
    return ledger


def run(*arguments: str) -> Result:
    return CliRunner().invoke(prune, list(arguments))


def test_the_longest_retention_is_the_default(ledger: FakeLedger) -> None:
    result = run()
    assert (result.exit_code, result.output) == (0, "deleted 7 rows older than 20 days\n")
    assert ledger.asked == [("prune", 20 * 86400.0, 5_000)]


def test_a_dry_run_only_counts(ledger: FakeLedger) -> None:
    assert run("--dry-run", "--older-than", "30d").output == "would delete 7 rows older than 30 days\n"
    assert ledger.asked == [("expired", 30 * 86400.0)]


@pytest.mark.parametrize(("dry", "deleted"), [((), 7), (("--dry-run",), 0)])
def test_the_document(ledger: FakeLedger, dry: tuple[str, ...], deleted: int) -> None:
    document = json.loads(run("--json", *dry).output)
    assert document == {"deleted": deleted, "expired": 7, "older_than": 20 * 86400.0}


def test_what_may_be_delivered_again_is_not_forgotten(ledger: FakeLedger) -> None:
    result = run("--older-than", "19d")
    assert isinstance(result.exception, ConfigurationError)
    assert str(result.exception).startswith("--older-than is shorter than the retention of mails (20 days)")
    assert ledger.asked == []
