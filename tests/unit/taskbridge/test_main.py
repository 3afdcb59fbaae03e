from __future__ import annotations

import runpy
import sys

import pytest

from taskbridge import __version__
from taskbridge.cli import COMMANDS


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int | str | None:
    """Run `python -m taskbridge` in this process; return the exit status."""
    monkeypatch.setattr(sys, "argv", ["taskbridge", *arguments])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("taskbridge", run_name="__main__", alter_sys=True)
    return ended.value.code


def test_the_module_is_the_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"taskbridge, version {__version__}\n"
    assert run(monkeypatch, "--help") == 0
    said = capsys.readouterr().out
    assert [name for name in COMMANDS if f"\n  {name} " not in said] == []


def test_a_mistake_ends_in_one_sentence_and_status_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("TASKBRIDGE_APP", raising=False)
    assert run(monkeypatch, "status") == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert said[0].startswith("error: ")
