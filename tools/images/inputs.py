"""
What goes into an image: its files, and one hash of them all.

Only what is hashed is handed to the build, as a context of its own: an image cannot hold a file that its tag does not
know.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from images.errors import ImagesError

__all__ = ["digest", "files", "stage"]

_LEFT_OUT = frozenset({"__pycache__", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".DS_Store"})


def files(root: Path, sources: Iterable[str]) -> list[Path]:
    """
    Return the files under these sources, relative to the root, sorted.

    What tools leave behind is no input. Raises ImagesError for a source that is not there or that leads outside.
    """
    found: set[Path] = set()
    for source in sources:
        start = root / source
        if not start.resolve().is_relative_to(root.resolve()):
            raise ImagesError(f"{source} is outside of {root}: copy only what belongs to the checkout.")
        if not start.exists():
            raise ImagesError(f"There is no {source} in {root}: run this from a complete checkout.")
        found |= {path.relative_to(root) for path in _walk(start)}
    return sorted(found)


def _walk(start: Path) -> Iterator[Path]:
    if start.name in _LEFT_OUT or start.suffix == ".pyc":
        return
    if start.is_file():
        yield start
    elif start.is_dir():
        for path in start.iterdir():
            yield from _walk(path)


def digest(root: Path, paths: Iterable[Path], further: Mapping[str, str]) -> str:
    """
    Return twelve hexadecimal digits for the names, modes and contents of files and for further named values.

    The same in every checkout and at every time: neither the root's own path nor a date goes in.
    """
    whole = hashlib.sha256()
    for path in sorted(paths):
        file = root / path
        mode = "x" if file.stat().st_mode & 0o100 else "-"
        whole.update(f"{path.as_posix()}\0{mode}\0{hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    for name, value in sorted(further.items()):
        whole.update(f"{name}\0{value}\n".encode())
    return whole.hexdigest()[:12]


def stage(root: Path, paths: Iterable[Path], target: Path) -> None:
    """Copy files into a folder under the same relative paths, with modes that no umask changes."""
    for path in paths:
        copy = target / path
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / path, copy)
        copy.chmod(0o755 if (root / path).stat().st_mode & 0o100 else 0o644)
    for folder in (path for path in target.rglob("*") if path.is_dir()):
        folder.chmod(0o755)
