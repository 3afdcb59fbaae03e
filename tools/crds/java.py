"""A Java that is recent enough for Strimzi's classes, which ask for a later one than Kafka does."""

import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

from crds.errors import CrdsError
from devstack.jars import java_version

__all__ = ["OLDEST", "candidates", "find_java"]

OLDEST = 21
"""The release that Strimzi's classes are compiled for."""

_PLACES = (
    "/usr/lib/jvm/*/bin/java",
    "/opt/java/*/bin/java",
    "/Library/Java/JavaVirtualMachines/*/Contents/Home/bin/java",
)


def candidates() -> Iterator[Path]:
    """Yield the Java runtimes of this machine: JAVA_HOME's, the PATH's, then those in the usual folders."""
    if home := os.environ.get("JAVA_HOME"):
        yield Path(home) / "bin" / "java"
    if found := shutil.which("java"):
        yield Path(found)
    for pattern in (*_PLACES, str(Path.home() / ".sdkman/candidates/java/*/bin/java")):
        yield from sorted(Path("/").glob(pattern.lstrip("/")))


def find_java(among: Iterable[Path] | None = None) -> Path:
    """Return the first Java runtime that is recent enough; raises CrdsError, naming those that are not."""
    seen: dict[Path, str] = {}
    for java in candidates() if among is None else among:
        if not java.is_file() or (real := java.resolve()) in seen:
            continue
        try:
            answer = subprocess.run([str(java), "-version"], capture_output=True, text=True, check=False)
        except OSError as error:
            seen[real] = f"{java} does not run ({error.strerror})"
            continue
        version = java_version(answer.stderr)
        if version is not None and version >= OLDEST:
            return java
        seen[real] = f"{java} is Java {version}" if version else f"{java} does not say its version"
    found = "; ".join(seen.values()) or "there is none"
    raise CrdsError(
        f"Strimzi's definitions are made with Java {OLDEST} or later, and {found}: install one (Debian 13, Ubuntu: "
        f"`apt install openjdk-21-jre-headless`; macOS: `brew install openjdk@21`) and set JAVA_HOME to it."
    )
