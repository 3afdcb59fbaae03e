"""What every image of the project keeps to."""

from __future__ import annotations

import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import pytest

from images.containerfile import Containerfile, read
from images.recipes import RECIPES, ROOT

FILES = sorted((ROOT / "images").glob("*/Containerfile"))
SCRIPTS = sorted(path for path in (ROOT / "images").rglob("*") if path.is_file() and path.read_bytes()[:2] == b"#!")
BUILDERS = {"gcc", "g++", "make", "cc", "build-essential", "python3-dev", "libpq-dev", "maven", "git", "curl", "wget"}
FOR_TOOLS = "base"
"""The folder of an image that others are built on, and that nobody runs."""


@pytest.fixture(params=RECIPES)
def file(request: pytest.FixtureRequest) -> Containerfile:
    return read(RECIPES[request.param].containerfile)


def settings(file: Containerfile, name: str) -> list[str]:
    """What the final stage says in all instructions of this name."""
    return [one.text for one in file.stages[-1] if one.name == name]


def test_every_containerfile_belongs_to_an_image() -> None:
    assert {path.parent.name for path in FILES} == {*RECIPES, FOR_TOOLS}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.parent.name)
def test_bases_have_full_names_and_exact_tags(path: Path) -> None:
    file = read(path)
    repository, _, tag = file.default_base.partition(":")

    assert repository.count("/") == 2, "a name without its registry means something else to every tool"
    assert re.search(r"\d+\.\d+\.\d+|-\d{8}\b", tag), "the tag names no release"
    assert "latest" not in path.read_text()
    begun = [stage[0].text.split() for stage in file.stages]
    assert {words[0] for words in begun} - {words[-1] for words in begun if len(words) == 3} == {"${BASE}"}


def test_it_runs_as_a_user_that_kubernetes_can_tell_is_not_root(file: Containerfile) -> None:
    names = [one.name for one in file.stages[-1]]

    assert settings(file, "USER") == ["10001:10001"]
    assert "RUN" not in names[names.index("USER") :], "what is written as that user could be changed by it"


def test_commands_are_lists(file: Containerfile) -> None:
    """A shell between the process and the kubelet would keep SIGTERM for itself."""
    for text in [*settings(file, "CMD"), *settings(file, "ENTRYPOINT")]:
        assert text.startswith('["')
    assert settings(file, "CMD")


def test_the_image_holds_no_tools_of_its_build(file: Containerfile) -> None:
    installed = set(shlex.split(" ".join(settings(file, "RUN"))))

    assert not installed & BUILDERS
    assert "pip" not in " ".join(settings(file, "RUN"))


def test_nothing_secret_has_a_place(file: Containerfile) -> None:
    for one in file.instructions:
        if one.name in {"ENV", "ARG", "LABEL"}:
            assert not re.search(r"password|passwd|token|secret(?!s/)|_key", one.text, re.IGNORECASE), one.text


def test_every_source_exists(file: Containerfile) -> None:
    assert file.sources
    for source in file.sources:
        assert (ROOT / source).exists(), source


def test_every_folder_that_is_copied_from_is_known(file: Containerfile) -> None:
    stages = {words[-1] for stage in file.stages if len(words := stage[0].text.split()) == 3}
    known = stages | set(RECIPES[file.path.parent.name].jars)

    assert {copy.source_stage for copy in file.copies} <= known | {None}


def test_it_says_what_it_is(file: Containerfile) -> None:
    labels = dict(re.findall(r'org\.opencontainers\.image\.([a-z.]+)="([^"]+)"', " ".join(settings(file, "LABEL"))))

    assert set(labels) == {"title", "description", "licenses"}
    assert labels["title"] == f"taskbridge {file.path.parent.name}"
    assert "$" not in "".join(labels.values()), "a layer taken from the cache has the value of an earlier build"


def test_package_lists_do_not_stay(file: Containerfile) -> None:
    for text in settings(file, "RUN"):
        if "apt-get" in text:
            assert "--no-install-recommends" in text
            assert "rm -rf /var/lib/apt/lists/*" in text


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_scripts_are_ready_to_run(path: Path) -> None:
    assert path.stat().st_mode & 0o111 == 0o111
    assert path.read_text().startswith("#!/bin/sh\n")
    assert subprocess.run(["sh", "-n", str(path)], capture_output=True, text=True, check=False).stderr == ""


@pytest.mark.parametrize(("name", "alone"), [("shop", False), ("operator", True)])
def test_an_image_installs_what_its_extra_asks_for(name: str, alone: bool) -> None:
    written = RECIPES[name].containerfile.read_text()
    arguments = re.search(r"requirements\.py ([a-z -]+) <", written)
    assert arguments is not None
    pyproject = (ROOT / "pyproject.toml").read_text()
    script = [str(ROOT / "images/shop/requirements.py"), *arguments[1].split()]
    said = subprocess.run(["python3", *script], input=pyproject, capture_output=True, text=True, check=True).stdout

    project = tomllib.loads(pyproject)["project"]
    own = [] if alone else project["dependencies"]
    assert said.splitlines() == [*own, *project["optional-dependencies"][name]]


def test_the_operator_installs_neither_the_bridge_nor_what_it_needs() -> None:
    file = read(RECIPES["operator"].containerfile)

    assert not any(source.startswith(("bridge", "apps")) for source in file.sources)


def test_the_build_of_the_package_is_pinned() -> None:
    """Outside of an environment of pip's own, which would take the newest of everything."""
    pins = re.findall(r"^([a-z0-9-]+)==", (ROOT / "constraints.txt").read_text(), re.MULTILINE)

    assert {"hatchling", "packaging", "pathspec", "pluggy", "trove-classifiers"} <= set(pins)
    assert "--no-build-isolation" in read(RECIPES["shop"].containerfile).path.read_text()
