"""A folder outside the tree for what is made once: keyed by what it is made of, complete or absent."""

import fcntl
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

__all__ = ["digest", "locked", "made", "root"]


def root() -> Path:
    """Return the project's folder in the user's cache, whether it exists or not."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "taskbridge"


def digest(parts: Iterable[bytes | str]) -> str:
    """Return 16 hexadecimal digits that change when a part changes, moves, or is split differently."""
    total = hashlib.sha256()
    for part in parts:
        raw = part.encode() if isinstance(part, str) else part
        total.update(len(raw).to_bytes(8, "big") + raw)
    return total.hexdigest()[:16]


def made(name: str, key: str, make: Callable[[Path], None]) -> Path:
    """
    Return the folder `<name>-<key>` of the cache; if it is not there, `make` fills it first.

    Safe to call from several processes: one makes, the others wait. What is at the returned path is complete,
    since it is put there by a rename. Raises what `make` raises, and leaves nothing then.
    """
    folder = root() / f"{name}-{key}"
    if folder.is_dir():
        return folder
    with locked(name):
        if not folder.is_dir():
            with tempfile.TemporaryDirectory(dir=root(), prefix=f"making-{name}-") as draft:
                target = Path(draft) / "made"
                target.mkdir()
                make(target)
                target.rename(folder)
    return folder


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold the lock of that name, between processes; waits for its turn. Its file goes when it is released."""
    root().mkdir(parents=True, exist_ok=True)
    path = root() / f"{name}.lock"
    while True:
        with path.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if not _is(path, file):
                # Whoever held it took the file away: others may hold the lock of a new one.
                continue
            try:
                yield
            finally:
                path.unlink()
            return


def _is(path: Path, file: IO[str]) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False
