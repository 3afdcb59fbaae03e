"""The reference names every metric as the code does."""

from __future__ import annotations

import pytest

from taskbridge.adapters.monitoring import families
from taskbridge.adapters.monitoring.families import Family
from taskbridge.adapters.monitoring.samples import CAUSES, REASONS, SERVERS
from tests.documents import ROOT, codes, rows, section

METRICS = ROOT / "docs" / "reference" / "metrics.md"


@pytest.mark.parametrize(
    ("heading", "known"),
    [("Worker", families.WORKER), ("Relay", families.RELAY), ("Dispatch", families.DISPATCH)],
)
def test_every_metric(heading: str, known: tuple[Family, ...]) -> None:
    table = rows(section(METRICS, heading), "metric")
    documented = {codes(row[0])[0]: (row[1], tuple(codes(row[2]))) for row in table}
    # What each metric of a section has, its text says.
    everywhere = {"Worker": {"service", "role"}, "Relay": {"database"}, "Dispatch": set()}[heading]
    assert documented == {
        family.name: (family.kind, tuple(name for name in family.labels if name not in everywhere)) for family in known
    }


def test_words_that_labels_may_have() -> None:
    worker, relay = section(METRICS, "Worker"), section(METRICS, "Relay")
    for word in (*REASONS, *CAUSES):
        assert f"`{word}`" in worker
    for word in SERVERS.values():
        assert f"`{word}`" in relay


def test_reasons_for_dead_letters_are_those_of_the_record_format() -> None:
    format_ = ROOT / "docs" / "reference" / "record-format.md"
    assert {codes(row[0])[0] for row in rows(section(format_, "Dead letters"), "reason")} == set(REASONS)
