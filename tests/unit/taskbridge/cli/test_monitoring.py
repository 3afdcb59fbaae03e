"""What `--http` of a command means."""

from __future__ import annotations

import os
import sys
import time
from http.client import HTTPConnection
from pathlib import Path

import pytest

from taskbridge.adapters.monitoring import families
from taskbridge.adapters.monitoring.samples import Sample
from taskbridge.cli.monitoring import monitored, shared_counts, stuck
from taskbridge.exceptions import ConfigurationError


def test_a_loop_is_healthy_while_it_turns() -> None:
    turned_at = time.monotonic()
    why_not = stuck(lambda: turned_at, 60.0)
    assert why_not() == ""
    turned_at -= 61.0
    assert why_not() == "the loop has not come round for 61 s"


def ask(address: str, path: str) -> tuple[int, str]:
    connection = HTTPConnection(address, timeout=60)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def test_what_is_asked_where(capsys: pytest.CaptureFixture[str]) -> None:
    samples = [Sample(families.LOST, ("shop.observations",), 3)]
    with monitored("127.0.0.1:0", lambda: "", lambda: "the group is not joined yet", lambda: samples):
        address = capsys.readouterr().err.strip().removeprefix("health and metrics at http://")
        assert ask(address, "/healthz") == (200, "ok\n")
        assert ask(address, "/readyz") == (503, "the group is not joined yet\n")
        status, text = ask(address, "/metrics")
        assert status == 200
        assert 'taskbridge_lost_records_total{topic="shop.observations"} 3.0' in text


def test_without_the_client_library_one_is_told_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with (
        pytest.raises(ConfigurationError, match=r"--http needs .* `pip install 'taskbridge\[metrics\]'`"),
        monitored("127.0.0.1:0", str, str, tuple),
    ):
        pass


def test_a_folder_for_counts_is_made_and_taken_away(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    with shared_counts() as folder:
        assert os.environ["PROMETHEUS_MULTIPROC_DIR"] == folder
        assert Path(folder).is_dir()
    assert "PROMETHEUS_MULTIPROC_DIR" not in os.environ
    assert not Path(folder).exists()
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    with shared_counts() as folder:
        assert folder == str(tmp_path)
    assert tmp_path.is_dir()
    assert os.environ["PROMETHEUS_MULTIPROC_DIR"] == str(tmp_path)
