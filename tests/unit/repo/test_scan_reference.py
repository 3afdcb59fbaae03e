"""What the reference of the scan says is what the scan does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from taskbridge.scan import BEHAVIOURS, SCHEMA, document, judge, read, survey, tasks
from tests.documents import ROOT, codes, rows, section

PAGE = ROOT / "docs" / "reference" / "scan.md"


def scanned(folder: Path) -> dict[str, Any]:
    text = "from celery import shared_task\n@shared_task(rate_limit='1/s')\ndef work(order_id): ...\nwork.delay(1)\n"
    (folder / "jobs.py").write_text(text)
    project = read([folder])
    return document(judge(project, survey(project), list(tasks(project))))


def test_the_table_of_features_is_the_one_that_the_scan_goes_by() -> None:
    table = rows(section(PAGE, "Findings"), "feature")
    assert {codes(row[0])[0]: (row[1], row[2]) for row in table} == {
        name: (str(behaviour.level), behaviour.sentence) for name, behaviour in BEHAVIOURS.items()
    }


def test_every_field_of_the_document(tmp_path: Path) -> None:
    found = scanned(tmp_path)
    text = section(PAGE, "The JSON document")
    assert {codes(row[0])[0] for row in rows(text, "field")} == set(found)
    members = {codes(row[0])[0]: row[1] for row in rows(text, "member")}
    [task] = found["tasks"]
    assert set(members) == set(task)
    assert set(codes(members["findings"])) == set(task["findings"][0])
    assert set(codes(members["key"])) - {"high", "medium", "low"} == set(task["key"])
    assert set(codes(members["publish"])) == set(task["publish"])
    assert set(codes(members["calls"])) - {"loop", "transaction", "on_commit"} == set(task["calls"][0])
    assert f"`{SCHEMA}`" in text
