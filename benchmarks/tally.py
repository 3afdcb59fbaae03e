"""
Counts that running tasks leave behind.

Each process adds to eight bytes of a file of its own, mapped into its memory. That takes some 0.1 µs, the same on both
sides, and whoever measures reads the files without a word to the process that is measured.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path

VARIABLE = "BENCHMARK_TALLY"
"""The environment variable that names the folder."""

_cells: list[memoryview] = []


def count() -> None:
    """Count one more run in this process."""
    if not _cells:
        _cells.append(_open(Path(os.environ[VARIABLE])))
    _cells[0][0] += 1


def _open(folder: Path) -> memoryview:
    path = folder / str(os.getpid())
    path.write_bytes(bytes(8))
    with path.open("r+b") as file:
        return memoryview(mmap.mmap(file.fileno(), 8)).cast("Q")


# A forked child must not go on in its parent's file.
os.register_at_fork(after_in_child=_cells.clear)


def read(folder: Path) -> dict[int, int]:
    """Return process id -> runs counted so far."""
    return {int(path.name): int.from_bytes(path.read_bytes(), "little") for path in folder.iterdir()}
