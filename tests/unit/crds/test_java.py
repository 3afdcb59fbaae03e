"""Which Java makes Strimzi's definitions."""

from pathlib import Path

import pytest

from crds.errors import CrdsError
from crds.java import OLDEST, candidates, find_java


def java(folder: Path, says: str) -> Path:
    """Return a program that says it is some Java, the way Java does."""
    folder.mkdir(parents=True)
    program = folder / "java"
    program.write_text(f"#!/bin/sh\necho '{says}' >&2\n")
    program.chmod(0o755)
    return program


def test_the_first_that_is_recent_enough_is_taken(tmp_path: Path) -> None:
    old = java(tmp_path / "old", 'openjdk version "17.0.15" 2025-04-15')
    new = java(tmp_path / "new", f'openjdk version "{OLDEST}.0.1" 2025-04-15')
    newer = java(tmp_path / "newer", 'openjdk version "25" 2025-09-16')

    assert find_java([tmp_path / "absent", old, new, newer]) == new


def test_those_that_are_too_old_are_named_once(tmp_path: Path) -> None:
    old = java(tmp_path / "old", 'openjdk version "17.0.15" 2025-04-15')
    again = tmp_path / "again"
    again.symlink_to(old)
    silent = java(tmp_path / "silent", "what?")

    with pytest.raises(CrdsError, match="Java 21 or later") as refused:
        find_java([old, again, silent])

    assert str(refused.value).count("is Java 17") == 1
    assert f"{silent} does not say its version" in str(refused.value)


def test_no_java_at_all_is_said(tmp_path: Path) -> None:
    with pytest.raises(CrdsError, match="there is none: install one"):
        find_java([tmp_path / "java"])


def test_java_home_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))

    assert next(candidates()) == tmp_path / "bin" / "java"
