"""A chart's README is what helm-docs makes of its template and values, and describes every value."""

from __future__ import annotations

import pytest
import yaml
from click.testing import CliRunner

from charts.readme import main, readme
from charts.render import Chart, charts
from tests.documents import rows

pytestmark = pytest.mark.parametrize("chart", charts(), ids=lambda chart: chart.name)


def values_of(text: str) -> list[list[str]]:
    """Return the rows of the table of values, without the line below its head."""
    return [cells for cells in rows(text, "Key") if not cells[0].startswith("-")]


def test_the_readme_is_the_generated_one(chart: Chart) -> None:
    there = (chart.path / "README.md").read_text()
    assert there == readme(chart), f"charts/{chart.name}/README.md is out of date: `python -m charts.readme` writes it"


def test_every_value_is_described(chart: Chart) -> None:
    table = values_of((chart.path / "README.md").read_text())
    assert len(table) > 20
    assert [cells[0] for cells in table if not cells[3]] == []


def test_every_value_is_in_the_table(chart: Chart) -> None:
    values = yaml.safe_load((chart.path / "values.yaml").read_text())
    listed = {cells[0].split(".")[0].split("[")[0] for cells in values_of((chart.path / "README.md").read_text())}
    assert listed == set(values)


def test_a_readme_that_is_out_of_date_is_named(chart: Chart, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("charts.readme.readme", lambda _: "# Something else\n")
    done = CliRunner().invoke(main, [chart.name, "--check"])
    assert (done.exit_code, done.output) == (1, f"{chart.name}/README.md is out of date\n")
