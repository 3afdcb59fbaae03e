"""What a Containerfile says, as far as the builder and the tests want to know it."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from images.errors import ImagesError

__all__ = ["Containerfile", "Copy", "Instruction", "read"]


@dataclass(frozen=True)
class Instruction:
    """One instruction, its continued lines joined; comments are not among its text."""

    name: str
    text: str
    line: int


@dataclass(frozen=True)
class Copy:
    """One COPY or ADD: what is copied, and from where if not from the checkout."""

    sources: tuple[str, ...]
    target: str
    source_stage: str | None


@dataclass(frozen=True)
class Containerfile:
    """A Containerfile's instructions, in their order."""

    path: Path
    instructions: tuple[Instruction, ...]

    @property
    def stages(self) -> list[list[Instruction]]:
        """The instructions of each stage, every one beginning with its FROM."""
        found: list[list[Instruction]] = []
        for one in self.instructions:
            if one.name == "FROM":
                found.append([])
            if found:
                found[-1].append(one)
        return found

    @property
    def default_base(self) -> str:
        """The image that `ARG BASE=` names; raises ImagesError where there is none."""
        for one in self.instructions:
            if one.name == "ARG" and one.text.startswith("BASE="):
                return one.text.removeprefix("BASE=")
        raise ImagesError(f"{self.path} has no ARG BASE=: every image's base is an argument with a default.")

    @property
    def copies(self) -> list[Copy]:
        """Every COPY and ADD of all stages."""
        return [_copy(self.path, one) for one in self.instructions if one.name in {"COPY", "ADD"}]

    @property
    def sources(self) -> list[str]:
        """What is copied out of the checkout, as paths relative to its root."""
        return [source for copy in self.copies if copy.source_stage is None for source in copy.sources]


def read(path: Path) -> Containerfile:
    """Return the instructions of a file; raises ImagesError where there is none."""
    try:
        text = path.read_text()
    except FileNotFoundError:
        raise ImagesError(f"There is no {path}: run this from a complete checkout.") from None
    found: list[Instruction] = []
    joined, began = "", 0
    for number, line in enumerate(text.splitlines(), start=1):
        if line.lstrip().startswith("#") or not (line.strip() or joined):
            continue
        began = began or number
        if line.endswith("\\"):
            joined += f"{line[:-1].strip()} "
            continue
        name, _, rest = f"{joined}{line.strip()}".partition(" ")
        found.append(Instruction(name.upper(), rest.strip(), began))
        joined, began = "", 0
    return Containerfile(path, tuple(found))


def _copy(path: Path, instruction: Instruction) -> Copy:
    words = shlex.split(instruction.text)
    options = [word for word in words if word.startswith("--")]
    paths = [word for word in words if not word.startswith("--")]
    if len(paths) < 2 or re.search(r"[*?\[]", instruction.text):
        raise ImagesError(f"{path}, line {instruction.line}: name each source of {instruction.name}, without patterns.")
    stage = next((option.partition("=")[2] for option in options if option.startswith("--from=")), None)
    return Copy(tuple(paths[:-1]), paths[-1], stage)
