from __future__ import annotations

from pathlib import Path

import pytest

from images.containerfile import Containerfile, read
from images.errors import ImagesError

TEXT = """\
# A comment
ARG BASE=example.org/library/debian:1.2.3

FROM ${BASE} AS build
RUN one \\
    # between the lines
    && two

COPY pyproject.toml constraints.txt ./
copy --chown=1:1 apps /app/apps
FROM ${BASE}
COPY --from=build /opt /opt
USER 10001
"""


@pytest.fixture
def file(tmp_path: Path) -> Containerfile:
    path = tmp_path / "Containerfile"
    path.write_text(TEXT)
    return read(path)


def test_continued_lines_are_one_instruction(file: Containerfile) -> None:
    run = next(one for one in file.instructions if one.name == "RUN")

    assert run.text == "one && two"
    assert run.line == 5


def test_stages_begin_with_from(file: Containerfile) -> None:
    assert [[one.name for one in stage] for stage in file.stages] == [
        ["FROM", "RUN", "COPY", "COPY"],
        ["FROM", "COPY", "USER"],
    ]


def test_sources_are_what_comes_out_of_the_checkout(file: Containerfile) -> None:
    assert file.sources == ["pyproject.toml", "constraints.txt", "apps"]
    assert [copy.source_stage for copy in file.copies] == [None, None, "build"]
    assert [copy.target for copy in file.copies] == ["./", "/app/apps", "/opt"]


def test_the_default_base(file: Containerfile) -> None:
    assert file.default_base == "example.org/library/debian:1.2.3"


def test_a_base_without_a_default_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "Containerfile"
    path.write_text("FROM debian:1\n")

    with pytest.raises(ImagesError, match=r"has no ARG BASE="):
        read(path).default_base  # noqa: B018


@pytest.mark.parametrize("line", ["COPY *.toml /src/", "COPY app[s] /app", "COPY apps"])
def test_sources_that_the_hash_could_not_find_are_refused(tmp_path: Path, line: str) -> None:
    path = tmp_path / "Containerfile"
    path.write_text(f"FROM x\n{line}\n")

    with pytest.raises(ImagesError, match=r"line 2: name each source of COPY, without patterns"):
        read(path).copies  # noqa: B018


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ImagesError, match=r"There is no .*nowhere: run this from a complete checkout"):
        read(tmp_path / "nowhere")
