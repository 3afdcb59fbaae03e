from pathlib import Path

import pytest

from devstack import jars
from devstack.errors import DevstackError, MissingToolError


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """Return a function that puts a shell script on an otherwise empty PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("JAVA_HOME", raising=False)

    def add(name: str, script: str, into: Path = folder) -> Path:
        into.mkdir(parents=True, exist_ok=True)
        path = into / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return path

    return add


def java(version: str) -> str:
    return f"""echo 'openjdk version "{version}"' >&2"""


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ('openjdk version "17.0.15" 2025-04-15', 17),
        ('java version "1.8.0_401"', 8),  # before Java 9 the first number was always 1
        ('openjdk version "25" 2025-09-16', 25),
        ('openjdk version "26-ea" 2026-03-17', 26),
        ('Picked up JAVA_TOOL_OPTIONS: -Xmx1m\nopenjdk version "21.0.1"', 21),
        ("The operation couldn't be completed.", None),  # macOS' placeholder
    ],
)
def test_java_version(text, version):
    assert jars.java_version(text) == version


def test_java_on_the_path_is_found(commands):
    expected = commands("java", java("17.0.15"))

    assert jars.find_java() == expected


def test_java_home_goes_before_the_path(commands, tmp_path, monkeypatch):
    commands("java", java("17.0.15"))
    expected = commands("java", java("21.0.1"), into=tmp_path / "jdk" / "bin")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "jdk"))

    assert jars.find_java() == expected


@pytest.mark.parametrize("said", ["There is no `java` on the PATH", "openjdk-17-jre-headless", "brew install"])
def test_without_java_the_message_names_the_remedies(commands, said):
    with pytest.raises(MissingToolError) as missing:
        jars.find_java()

    assert said in str(missing.value)
    assert "TASKBRIDGE_TEST_KAFKA_BOOTSTRAP_SERVERS" in str(missing.value)


def test_a_java_home_without_java_is_named(commands, monkeypatch):
    monkeypatch.setenv("JAVA_HOME", "/nowhere")

    with pytest.raises(MissingToolError, match="JAVA_HOME=/nowhere"):
        jars.find_java()


def test_an_old_java_is_refused(commands):
    commands("java", java("11.0.2"))

    with pytest.raises(MissingToolError, match=r"is Java 11.* needs Java 17"):
        jars.find_java()


def test_without_maven_the_message_names_the_remedies(commands):
    with pytest.raises(MissingToolError, match=r"apt install maven.*brew install maven.*TASKBRIDGE_TEST_KAFKA"):
        jars.find_maven()


def test_another_pom_has_another_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first, same, other = (tmp_path / name for name in ("first.xml", "same.xml", "other.xml"))
    first.write_text("<project/>")
    same.write_text("<project/>")
    other.write_text("<project><version>2</version></project>")

    assert jars.cache_folder(first) == jars.cache_folder(same)
    assert jars.cache_folder(first) != jars.cache_folder(other)
    assert jars.cache_folder(first).is_relative_to(tmp_path / "taskbridge")


def test_the_cache_is_outside_the_project(monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)

    assert jars.cache_folder().parent == Path.home() / ".cache" / "taskbridge"


# Stands in for Maven: makes one jar in the folder that the last but one option names.
FETCHES = """
for option in "$@"; do
    case $option in -DoutputDirectory=*) folder=${option#*=} ;; esac
done
/bin/mkdir -p "$folder" && echo jar > "$folder/kafka.jar" && echo run >> "$0.runs"
"""


def test_jars_are_fetched_once(commands, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    maven = commands("mvn", FETCHES)
    said: list[str] = []

    folder = jars.fetch(said.append)

    assert jars.fetch(said.append) == folder
    assert jars.class_path(folder) == str(folder / "kafka.jar")
    assert maven.with_name("mvn.runs").read_text() == "run\n"
    assert len(said) == 1
    assert str(folder) in said[0]


def test_a_failed_fetch_leaves_nothing_that_looks_complete(commands, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    commands("mvn", FETCHES + "echo 'Could not transfer artifact'; exit 1")

    with pytest.raises(DevstackError, match=r"check the network(?s:.*)Could not transfer artifact"):
        jars.fetch(lambda _line: None)

    assert not jars.cache_folder().exists()
    assert not list((tmp_path / "cache" / "taskbridge").glob("fetching-*"))
