"""Folders of the user's cache, made once and completely by whoever needs them first."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["folder", "locked", "made_once", "root"]


def root() -> Path:
    """Return the project's folder of the user's cache, outside of every checkout."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "taskbridge"


def folder(name: str, key: str) -> Path:
    """Return the folder for what was made from inputs with this key, whether it exists or not."""
    return root() / f"{name}-{key}"


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold one of the cache's locks, waiting for whoever has it; it ends with the process, however that ends."""
    root().mkdir(parents=True, exist_ok=True)
    with (root() / f"{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def made_once(target: Path, lock: str, make: Callable[[Path], None]) -> Path:
    """
    Return the target folder, which `make` fills first if it is not there.

    One process makes it, others wait. What is at the target is complete, because it is put there by a rename.
    """
    if target.is_dir():
        return target
    with locked(lock):
        if target.is_dir():
            return target
        draft = Path(tempfile.mkdtemp(dir=root(), prefix=f"making-{target.name}-"))
        try:
            make(draft)
            draft.rename(target)
        except BaseException:
            shutil.rmtree(draft)
            raise
    return target
