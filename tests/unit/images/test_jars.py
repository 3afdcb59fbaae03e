from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import pytest

from images import jars
from images.errors import BuildFailedError, MissingToolError
from images.recipes import RECIPES, ROOT

Program = Callable[[str, str], Path]

POM = '<project xmlns="http://maven.apache.org/POM/4.0.0">{}</project>'
# Stands in for Maven: makes one jar where the last option says.
FETCHES = """
for option in "$@"; do
    case $option in -DoutputDirectory=*) echo jar > "${option#*=}/one.jar" ;; esac
done
echo run >> "$0.runs"
"""


@pytest.fixture
def pom(tmp_path: Path) -> Path:
    path = tmp_path / "pom.xml"
    path.write_text(POM.format(""))
    return path


def test_jars_are_fetched_once(pom: Path, cache: Path, program: Program) -> None:
    maven = program("mvn", FETCHES)

    folder = jars.fetch(pom, lambda _line: None)

    assert jars.fetch(pom, lambda _line: None) == folder
    assert folder.is_relative_to(cache)
    assert (folder / "one.jar").exists()
    assert maven.with_name("mvn.runs").read_text() == "run\n"


@pytest.mark.usefixtures("cache")
def test_another_parent_means_other_jars(tmp_path: Path, pom: Path, program: Program) -> None:
    program("mvn", FETCHES)
    child = tmp_path / "child.xml"
    child.write_text(POM.format("<parent><relativePath>pom.xml</relativePath></parent>"))
    before = jars.fetch(child, lambda _line: None)

    pom.write_text(POM.format("<version>2</version>"))

    assert jars.projects(child) == [child, pom]
    assert jars.fetch(child, lambda _line: None) != before


def test_what_maven_said_is_told(pom: Path, cache: Path, program: Program) -> None:
    program("mvn", FETCHES + "echo 'Could not transfer artifact'; exit 1")

    with pytest.raises(BuildFailedError, match=r"The jars of .*pom\.xml could not be fetched(?s:.*)Could not transfer"):
        jars.fetch(pom, lambda _line: None)

    assert not list(cache.glob("jars-*"))


@pytest.mark.usefixtures("cache")
def test_no_jars_are_an_error(pom: Path, program: Program) -> None:
    program("mvn", "true")

    with pytest.raises(BuildFailedError, match=r"fetched no jar"):
        jars.fetch(pom, lambda _line: None)


@pytest.mark.usefixtures("cache", "no_programs")
def test_without_maven_the_remedy_is_named(pom: Path) -> None:
    with pytest.raises(MissingToolError, match=r"There is no `mvn` .* `apt install maven`"):
        jars.fetch(pom, lambda _line: None)


def test_the_broker_in_the_image_is_the_local_one() -> None:
    server = ROOT / RECIPES["kafka"].jars["server"]

    assert ROOT / "tools" / "devstack" / "pom.xml" in jars.projects(server)
    for dependency in ET.parse(server).getroot().iter("{http://maven.apache.org/POM/4.0.0}dependency"):  # noqa: S314
        assert dependency.findtext("{http://maven.apache.org/POM/4.0.0}version") == "${kafka.version}"


def test_debezium_is_one_that_loses_no_rows_at_a_restart() -> None:
    space = "{http://maven.apache.org/POM/4.0.0}"
    plugins = ET.parse(ROOT / RECIPES["kafka"].jars["plugins"]).getroot()  # noqa: S314
    version = next(
        one.findtext(f"{space}version", "")
        for one in plugins.iter(f"{space}dependency")
        if one.findtext(f"{space}artifactId") == "debezium-connector-postgres"
    )

    assert tuple(map(int, version.split(".")[:2])) >= (3, 7)
