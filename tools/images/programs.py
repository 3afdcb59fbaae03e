"""The programs that build images: found, or named with what installs them."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from images.errors import BuildFailedError, MissingToolError

__all__ = ["find", "run"]

_PACKAGES = {"mvn": "maven"}
"""Debian's package, where it is not called like the program."""

_LAST_LINES = 25


def find(*names: str) -> None:
    """Raise MissingToolError, with the line that installs them, unless all these programs are on the PATH."""
    missing = [name for name in names if shutil.which(name) is None]
    if missing:
        packages = " ".join(_PACKAGES.get(name, name) for name in missing)
        raise MissingToolError(
            f"There is no `{'`, no `'.join(missing)}` on the PATH, and images are built with it. "
            f"Debian, Ubuntu: `apt install {packages}`."
        )


def run(
    what: str, command: Sequence[str], environment: Mapping[str, str] | None = None, cwd: Path | None = None
) -> str:
    """Return what a program printed; raises BuildFailedError, which begins with `what` could not be done."""
    done = subprocess.run(
        list(command),
        env=None if environment is None else dict(environment),
        cwd=cwd,
        capture_output=True,
        text=True,
        errors="replace",
        stdin=subprocess.DEVNULL,
        check=False,
    )
    if done.returncode:
        said = (done.stdout + done.stderr).splitlines()[-_LAST_LINES:]
        quoted = "\n".join(f"    {line}" for line in said)
        raise BuildFailedError(f"{what}: `{command[0]}` ended with status {done.returncode} and said:\n{quoted}")
    return done.stdout
