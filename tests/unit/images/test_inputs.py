from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from images import inputs
from images.errors import ImagesError


def checkout(root: Path) -> Path:
    (root / "apps" / "shop").mkdir(parents=True)
    (root / "apps" / "shop" / "tasks.py").write_text("x = 1\n")
    (root / "apps" / "shop" / "run").write_text("#!/bin/sh\n")
    (root / "apps" / "shop" / "run").chmod(0o755)
    (root / "manage.py").write_text("y = 2\n")
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return checkout(tmp_path / "one")


def tag(root: Path, further: dict[str, str] | None = None) -> str:
    return inputs.digest(root, inputs.files(root, ["apps", "manage.py"]), further or {})


def test_files_of_folders_are_found_without_what_tools_leave(root: Path) -> None:
    (root / "apps" / "shop" / "__pycache__").mkdir()
    (root / "apps" / "shop" / "__pycache__" / "tasks.cpython-311.pyc").write_bytes(b"x")
    (root / "apps" / "old.pyc").write_bytes(b"x")
    (root / "elsewhere.txt").write_text("not asked for")

    found = inputs.files(root, ["manage.py", "apps", "apps/shop"])

    assert [str(path) for path in found] == ["apps/shop/run", "apps/shop/tasks.py", "manage.py"]


def test_the_same_inputs_have_the_same_tag_in_every_checkout(root: Path, tmp_path: Path) -> None:
    other = checkout(tmp_path / "two")
    os.utime(other / "manage.py", (1, 1))

    assert tag(root) == tag(other)


@pytest.mark.parametrize(
    "change",
    [
        lambda root: (root / "manage.py").write_text("y = 3\n"),
        lambda root: (root / "manage.py").chmod(0o755),
        lambda root: (root / "manage.py").rename(root / "apps" / "manage.py"),
        lambda root: (root / "apps" / "new.py").touch(),
    ],
    ids=["content", "mode", "name", "another"],
)
def test_every_change_of_a_file_changes_the_tag(root: Path, change: Callable[[Path], object]) -> None:
    before = tag(root)

    change(root)

    files = inputs.files(root, [name for name in ("apps", "manage.py") if (root / name).exists()])
    assert inputs.digest(root, files, {}) != before


def test_another_base_changes_the_tag(root: Path) -> None:
    assert len({tag(root), tag(root, {"base": "a"}), tag(root, {"base": "b"}), tag(root, {"version": "a"})}) == 4


def test_a_missing_source_is_one_sentence(root: Path) -> None:
    with pytest.raises(ImagesError, match=r"There is no bridge in .*: run this from a complete checkout"):
        inputs.files(root, ["apps", "bridge"])


def test_a_source_outside_is_refused(root: Path, tmp_path: Path) -> None:
    (tmp_path / "passwords").touch()

    with pytest.raises(ImagesError, match=r"is outside of"):
        inputs.files(root, ["../passwords"])


def test_what_is_staged_is_what_was_hashed(root: Path, tmp_path: Path) -> None:
    (root / "manage.py").chmod(0o600)
    paths = inputs.files(root, ["apps", "manage.py"])

    inputs.stage(root, paths, tmp_path / "context")

    assert inputs.digest(tmp_path / "context", paths, {}) == inputs.digest(root, paths, {})
    assert (tmp_path / "context" / "manage.py").stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "context" / "apps" / "shop" / "run").stat().st_mode & 0o777 == 0o755
    assert inputs.files(tmp_path / "context", ["."]) == paths
