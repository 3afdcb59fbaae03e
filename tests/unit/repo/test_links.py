"""Every link in the documentation leads somewhere."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tests.documents import ROOT, anchors, documents, links


@pytest.mark.parametrize("path", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_files_and_headings(path: Path) -> None:
    for link in links(path):
        if link.startswith("https://"):
            continue
        target, _, anchor = link.partition("#")
        file = (path.parent / target).resolve() if target else path
        assert file.is_file(), f"{path} links to {link}"
        assert not anchor or anchor in anchors(file), f"{path} links to {link}, but there is no such heading"


def test_every_page_is_reached_from_the_index() -> None:
    index = ROOT / "docs" / "index.md"
    reached = {(index.parent / link).resolve() for link in links(index) if not link.startswith("https://")}
    assert set((ROOT / "docs").rglob("*.md")) - {index} <= reached


def test_the_picture_is_readable_alone_and_loads_nothing() -> None:
    picture = ROOT / "docs" / "images" / "architecture.svg"
    tree = ET.parse(picture)  # noqa: S314 - our own file
    names = {element.tag.rpartition("}")[2] for element in tree.iter()}
    assert {"title", "desc", "style"} <= names
    assert not names & {"script", "image", "foreignObject", "use"}
    assert "prefers-color-scheme: dark" in picture.read_text()
