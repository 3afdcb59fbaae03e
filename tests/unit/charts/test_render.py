"""Charts and their scenarios, as far as no tool is needed."""

from pathlib import Path

import pytest

from charts.errors import ChartsError
from charts.render import FOLDER, charts, documents, find


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("bread", "cake"):
        (tmp_path / name / "ci").mkdir(parents=True)
        (tmp_path / name / "Chart.yaml").write_text(f"name: {name}\n")
    for scenario in ("small", "large"):
        (tmp_path / "cake" / "ci" / f"{scenario}-values.yaml").write_text("{}\n")
    (tmp_path / "notes").mkdir()
    return tmp_path


def test_a_folder_with_a_chart_is_one(folder: Path) -> None:
    assert [chart.name for chart in charts(folder)] == ["bread", "cake"]
    assert "kafka" in [chart.name for chart in charts(FOLDER)]


def test_scenarios_are_the_values_in_ci(folder: Path) -> None:
    cake = find("cake", folder)

    assert [one.name for one in cake.scenarios] == ["large", "small"]
    assert cake.scenario("small").values == folder / "cake" / "ci" / "small-values.yaml"


def test_unknown_names_are_answered_with_the_known_ones(folder: Path) -> None:
    with pytest.raises(ChartsError, match=r"no chart 'pie' .* there is bread, cake"):
        find("pie", folder)
    with pytest.raises(ChartsError, match="chart cake has no scenario 'huge' in ci/: there is large, small"):
        find("cake", folder).scenario("huge")
    with pytest.raises(ChartsError, match="there is none"):
        find("bread", folder).scenario("any")


def test_empty_documents_are_no_resources() -> None:
    assert list(documents("---\n# nothing\n---\nkind: A\n---\n")) == [{"kind": "A"}]
