"""Folders that are made once and kept in the user's cache, under the hash of what they are made from."""

import fcntl
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

__all__ = ["folder_of", "kept"]


def folder_of(name: str, inputs: Iterable[bytes]) -> Path:
    """Return the folder for exactly these inputs, whether it exists or not."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    digest = hashlib.sha256()
    for one in inputs:
        digest.update(len(one).to_bytes(8, "big") + one)
    return root / "taskbridge" / f"{name}-{digest.hexdigest()[:16]}"


def kept(folder: Path, make: Callable[[Path], None], lock: str) -> Path:
    """
    Return the folder, letting `make` fill an empty one first if it is not there.

    Only one process at a time makes what shares a `lock`.
    Safe to call from several processes: one makes it, the others wait. What is at the returned path is complete, since
    it is put there by a rename. Raises what `make` raises, and leaves nothing behind then.
    """
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f"{lock}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if folder.is_dir():
            return folder
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f"making-{folder.name}-") as draft:
            target = Path(draft) / "made"
            target.mkdir()
            make(target)
            target.rename(folder)
    return folder
