"""The figures that the README gives are those of the benchmarks."""

from __future__ import annotations

import re

from tests.documents import ROOT, rows

BENCHMARKS = ROOT / "docs" / "benchmarks.md"


def median(column: str, row: str) -> str:
    """Return the median in a row of the tables with such a first column."""
    [found] = [cells[2] for cells in rows(BENCHMARKS.read_text(), column) if cells[0] == row]
    return found


def test_what_the_readme_says_was_measured() -> None:
    found = re.search(r"^Measured: .*?\n\n", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    assert found is not None
    ratios = re.search(r"([\d.]+) of the replica-seconds, ([\d.]+) of the rebalances", BENCHMARKS.read_text())
    assert ratios is not None
    assert re.findall(r"\d+\.\d+", found[0]) == [
        median("", "taskbridge over the better Celery worker"),
        median("over plain Celery", "mirror, p50"),
        median("over plain Celery", "live, confirmed, p50"),
        *ratios.groups(),
    ]
