"""Counts that cross from one process to another."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from benchmarks import tally

ROOT = Path(__file__).resolve().parents[3]

COUNTING = """
import os
from benchmarks.tally import count

for _ in range(3):
    count()
child = os.fork()
if child == 0:
    count()
    os._exit(0)
os.waitpid(child, 0)
count()
print(os.getpid(), child)
"""


def test_each_process_counts_for_itself(tmp_path: Path) -> None:
    environment = os.environ | {tally.VARIABLE: str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", COUNTING], env=environment, capture_output=True, text=True, check=True)
    parent, child = map(int, done.stdout.split())
    assert tally.read(tmp_path) == {parent: 4, child: 1}


def test_nobody_has_counted(tmp_path: Path) -> None:
    assert tally.read(tmp_path) == {}
