"""Folders of jars, fetched once by Maven into the user's cache."""

from __future__ import annotations

import hashlib
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

from images import caches, programs
from images.errors import BuildFailedError

__all__ = ["fetch", "projects"]

_POM = "{http://maven.apache.org/POM/4.0.0}"


def projects(pom: Path) -> list[Path]:
    """Return the Maven project file and its parents by relative path: what decides which jars there are."""
    # The file is the checkout's own.
    parent = ET.parse(pom).getroot().find(f"{_POM}parent/{_POM}relativePath")  # noqa: S314
    if parent is None or not parent.text:
        return [pom]
    return [pom, *projects((pom.parent / parent.text).resolve())]


def fetch(pom: Path, report: Callable[[str], None]) -> Path:
    """Return the folder with the project's jars and all that they need at run time; raises ImagesError."""
    whole = hashlib.sha256(b"\0".join(file.read_bytes() for file in projects(pom)))
    target = caches.folder(f"jars-{pom.stem}", whole.hexdigest()[:16])

    def make(draft: Path) -> None:
        programs.find("mvn")
        report(f"Fetching the jars of {pom.name} with Maven (only this once) …")
        goal = ["mvn", "-B", "-ntp", "-f", str(pom), "dependency:copy-dependencies", "-DincludeScope=runtime"]
        programs.run(f"The jars of {pom} could not be fetched", [*goal, f"-DoutputDirectory={draft}"])
        if not any(draft.glob("*.jar")):
            raise BuildFailedError(f"Maven fetched no jar for {pom}: look at its dependencies.")
        draft.chmod(0o755)

    # The lock of the local services' own fetching: Maven's repository is not made for two writers at once.
    return caches.made_once(target, "fetch", make)
