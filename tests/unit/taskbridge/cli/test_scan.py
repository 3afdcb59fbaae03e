"""`taskbridge scan` and `taskbridge init` on a project that was never imported."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from taskbridge.cli import cli
from taskbridge.exceptions import ConfigurationError
from taskbridge.settings import Settings

TASKS = """
from celery import shared_task
@shared_task(acks_late=True)
def confirm(order_id): ...
@shared_task(rate_limit="1/s", acks_late=True)
def crawl(supplier_id): ...
"""
CONFIRM = TASKS.partition("@shared_task(rate")[0]


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    files = {"orders": CONFIRM, "feeds": TASKS.replace("def confirm", "def check")}
    for name, text in files.items():
        folder = tmp_path / "shop" / name
        folder.mkdir(parents=True)
        (folder / "tasks.py").write_text(text)
        for package in (folder, folder.parent):
            (package / "__init__.py").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TASKBRIDGE_APP", "nothing.of.this.name")
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments, catch_exceptions=False)


def test_the_document(source: Path) -> None:
    result = run("scan", "--source", ".", "--json")
    assert result.exit_code == 1
    document = json.loads(result.output)
    assert document["schema"] == "taskbridge.scan/1"
    assert document["app"] is None
    assert document["totals"] == {"tasks": 3, "stops": 1, "differs": 0}
    assert document["services"]["orders"] == {"tasks": ["shop.orders.tasks.*"], "keys": {"*": "order_id"}}
    crawl = next(task for task in document["tasks"] if task["name"].endswith(".crawl"))
    assert (crawl["file"], crawl["service"], crawl["key"]["argument"]) == (
        "shop/feeds/tasks.py",
        "feeds",
        "supplier_id",
    )
    [finding] = crawl["findings"]
    assert (finding["feature"], finding["level"], finding["line"]) == ("rate_limit", "stops", 6)


def test_the_view_names_what_stops_and_where(source: Path) -> None:
    (source / "shop" / "broken.py").write_text("def f(:")
    result = run("scan", "--source", ".")
    assert result.exit_code == 1
    assert "orders: 1 task\n" in result.output
    assert "key order_id" in result.output
    assert "crawl uses rate_limit='1/s' at shop/feeds/tasks.py:6" in " ".join(result.output.split())
    assert "not read: shop/broken.py: line 1: " in result.output
    assert "3 tasks in 2 services, 5 files read: 1 finding in 1 task" in result.output


def test_one_service_and_what_counts_as_a_failure(source: Path) -> None:
    assert run("scan", "--source", ".", "--service", "orders").exit_code == 0
    assert run("scan", "--source", ".", "--fail-on", "never").exit_code == 0
    (source / "shop" / "orders" / "tasks.py").write_text(CONFIRM.replace("acks_late=True", ""))
    assert run("scan", "--source", ".", "--service", "orders").exit_code == 0
    assert run("scan", "--source", ".", "--service", "orders", "--fail-on", "differs").exit_code == 1
    with pytest.raises(ConfigurationError, match="the scan found no service 'none'; it found: feeds, orders"):
        run("scan", "--source", ".", "--service", "none")


def test_what_cannot_be_scanned_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TASKBRIDGE_APP", raising=False)
    with pytest.raises(ConfigurationError, match="there is nothing to scan: give -A"):
        run("scan")
    with pytest.raises(ConfigurationError, match="no task is declared in what was read"):
        run("scan", "--source", str(tmp_path))
    with pytest.raises(ConfigurationError, match="the application nowhere cannot be loaded"):
        run("-A", "nowhere", "scan")
    assert run("scan", "--source", "gone").exit_code == 2


def test_init_prints_what_loads(source: Path) -> None:
    result = run("init", "--source", ".", "--prefix", "mine")
    assert result.exit_code == 0
    names: dict[str, dict[str, object]] = {}
    exec(result.output, names)  # noqa: S102 - it is what a user does with it
    settings = Settings.from_mapping(names["TASKBRIDGE"], {"KAFKA_BOOTSTRAP_SERVERS": "-"})
    assert (settings.prefix, sorted(settings.services)) == ("mine", ["feeds", "orders"])


def test_init_writes_a_file_and_never_over_one(source: Path) -> None:
    result = run("init", "--source", ".", "--write", "shop/bridge_settings.py")
    assert result.exit_code == 0
    assert "from shop.bridge_settings import TASKBRIDGE" in result.output
    assert runpy.run_path(str(source / "shop" / "bridge_settings.py"))["TASKBRIDGE"]["services"]
    before = (source / "shop" / "bridge_settings.py").read_text()
    with pytest.raises(ConfigurationError, match="is there already: name another file, or replace it with --force"):
        run("init", "--source", ".", "--write", "shop/bridge_settings.py", "--prefix", "other")
    assert (source / "shop" / "bridge_settings.py").read_text() == before
    run("init", "--source", ".", "--write", "shop/bridge_settings.py", "--prefix", "other", "--force")
    assert '"prefix": "other"' in (source / "shop" / "bridge_settings.py").read_text()
    assert run("init", "--source", ".", "--force").exit_code == 2
    with pytest.raises(ConfigurationError, match="could not be written to"):
        run("init", "--source", ".", "--write", "no/such/folder.py")
