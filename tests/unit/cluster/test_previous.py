"""The chart before today's is found in the repository, by its version."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml

from tests.cluster.previous import previous_chart


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "repository"
    root.mkdir()
    git(root, "init", "--quiet")
    git(root, "config", "user.email", "somebody@example.com")
    git(root, "config", "user.name", "Somebody")
    return root


def git(root: Path, *arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=root, check=True, capture_output=True)


def commit(root: Path, version: str, values: str) -> None:
    chart = root / "charts" / "shop"
    chart.mkdir(parents=True, exist_ok=True)
    (chart / "Chart.yaml").write_text(yaml.safe_dump({"name": "shop", "version": version}))
    (chart / "values.yaml").write_text(values)
    git(root, "add", ".")
    git(root, "commit", "--quiet", "--message", f"{version} {values}")


def test_it_is_the_last_state_of_another_version(repository: Path, tmp_path: Path) -> None:
    commit(repository, "0.1.0", "first: 1")
    commit(repository, "0.2.0", "second: 2")
    commit(repository, "0.2.0", "second: 3")
    commit(repository, "0.3.0", "third: 3")
    commit(repository, "0.3.0", "third: 4")
    found = previous_chart("shop", repository, tmp_path / "found")
    assert found is not None
    assert yaml.safe_load((found / "Chart.yaml").read_text())["version"] == "0.2.0"
    assert (found / "values.yaml").read_text() == "second: 3"


def test_a_version_that_is_not_committed_yet_follows_the_last_one(repository: Path, tmp_path: Path) -> None:
    commit(repository, "0.1.0", "first: 1")
    (repository / "charts/shop/Chart.yaml").write_text("version: 0.2.0")
    found = previous_chart("shop", repository, tmp_path / "found")
    assert found is not None
    assert (found / "values.yaml").read_text() == "first: 1"


def test_there_may_be_none_yet(repository: Path, tmp_path: Path) -> None:
    commit(repository, "0.1.0", "first: 1")
    commit(repository, "0.1.0", "first: 2")
    assert previous_chart("shop", repository, tmp_path / "found") is None


def test_without_a_repository_there_is_none(repository: Path, tmp_path: Path) -> None:
    commit(repository, "0.1.0", "first: 1")
    commit(repository, "0.2.0", "second: 2")
    (repository / ".git").rename(tmp_path / "elsewhere")
    assert previous_chart("shop", repository, tmp_path / "found") is None
