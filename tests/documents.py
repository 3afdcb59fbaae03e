"""The documentation, taken apart: blocks of code with their directives, links, headings, tables."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

_DIRECTIVE = re.compile(r"<!-- (.+) -->")
_HEADING = re.compile(r"(#+) +(.+)")
_LINK = re.compile(r"\[(?:[^\[\]]|\[[^\[\]]*\])*\]\(([^()\s]+)\)")
_CELL = re.compile(r"(?<!\\)\|")


@dataclass(frozen=True)
class Block:
    """
    A block of code, fenced or indented.

    `directive` is the HTML comment above it, which readers do not see. A directive without a block has no text.
    """

    language: str
    text: str
    directive: str
    line: int


def documents() -> list[Path]:
    """Return every document of the project."""
    return [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(path: Path) -> Iterator[Block]:
    """Yield a document's blocks and lone directives, in order."""
    directive, fence, start = "", None, 0
    found: list[str] = []
    for number, line in enumerate([*path.read_text().splitlines(), ""], 1):
        if fence is not None:
            if line == "```":
                yield Block(fence, "\n".join(found), directive, start)
                directive, fence, found = "", None, []
            else:
                found.append(line)
            continue
        if found and not line.startswith("    "):
            yield Block("", "\n".join(found), directive, start)
            directive, found = "", []
        if line.startswith("```"):
            fence, start = line[3:], number
        elif line.startswith("    "):
            start = start if found else number
            found.append(line[4:])
        elif comment := _DIRECTIVE.fullmatch(line):
            if directive:
                yield Block("", "", directive, start)
            directive, start = comment[1], number
        elif line and directive:
            yield Block("", "", directive, start)
            directive = ""


def prose(path: Path) -> str:
    """Return a document without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)


def links(path: Path) -> list[str]:
    """Return the targets of a document's links and images."""
    return _LINK.findall(prose(path))


def anchors(path: Path) -> set[str]:
    """Return the anchors that a document's headings get."""
    headings = (_HEADING.fullmatch(line) for line in prose(path).splitlines())
    texts = (heading[2].replace("`", "").lower() for heading in headings if heading)
    return {re.sub(r"[^\w\- ]", "", text).replace(" ", "-") for text in texts}


def section(path: Path, heading: str) -> str:
    """Return what stands under a heading, up to the next one of any level; raise ValueError when it is not there."""
    lines = path.read_text().splitlines()
    for number, line in enumerate(lines):
        found = _HEADING.fullmatch(line)
        if found and found[2] == heading:
            rest = lines[number + 1 :]
            end = next((index for index, text in enumerate(rest) if _HEADING.fullmatch(text)), len(rest))
            return "\n".join(rest[:end])
    raise ValueError(f"{path} has no heading {heading!r}")


def rows(text: str, first_column: str) -> list[list[str]]:
    """Return the cells of the table whose first column has this title, without the head."""
    table: list[list[str]] = []
    inside = False
    for line in text.splitlines():
        cells = [cell.strip() for cell in _CELL.split(line.strip())[1:-1]] if line.startswith("|") else []
        if cells and cells[0] == first_column:
            inside = True
        elif not cells:
            inside = False
        elif inside and set(cells[0]) != {"-"}:
            table.append(cells)
    return table


def codes(cell: str) -> list[str]:
    """Return the code spans in a text."""
    return re.findall(r"`([^`]+)`", cell)
