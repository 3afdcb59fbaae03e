"""The version of a chart before the one in the working tree, as the repository remembers it."""

from __future__ import annotations

import subprocess
import tarfile
from io import BytesIO
from pathlib import Path

import yaml

__all__ = ["previous_chart"]


def previous_chart(name: str, root: Path, folder: Path) -> Path | None:
    """
    Put the last state of the chart whose version differs from today's into `folder`, and return where it is.

    None where there was no other version yet, or `root` is no repository. Raises CalledProcessError when git fails.
    """
    path = f"charts/{name}"
    today = _version((root / path / "Chart.yaml").read_bytes())
    if not (root / ".git").exists():
        return None
    commits = _git(root, "log", "--format=%H", "--", f"{path}/Chart.yaml").decode().split()
    before = "HEAD"
    for commit in commits:
        # Where the chart was taken away there is no such file.
        there = _git(root, "ls-tree", commit, f"{path}/Chart.yaml")
        if there and _version(_git(root, "show", f"{commit}:{path}/Chart.yaml")) != today:
            with tarfile.open(fileobj=BytesIO(_git(root, "archive", before, path))) as archive:
                archive.extractall(folder, filter="data")
            return folder / path
        before = f"{commit}^"
    return None


def _version(chart: bytes) -> str:
    return str(yaml.safe_load(chart)["version"])


def _git(root: Path, *arguments: str) -> bytes:
    return subprocess.run(["git", *arguments], cwd=root, check=True, capture_output=True).stdout
