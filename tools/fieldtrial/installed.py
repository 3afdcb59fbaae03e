"""Mayan EDMS in a virtual environment of its own, kept for the next time."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

VERSION = "4.12.2"
"""The release that is tried: with Celery 5.6 and Django 5.2."""

WITHOUT = ("django-auth-ldap", "python-ldap")
"""Requirements that are left out: they need the headers of system libraries, and nothing here logs in by LDAP."""

DRIVERS = ("psycopg2-binary>=2.9.10", "redis>=5.2")
"""Of PostgreSQL and Redis, which Mayan leaves to whoever deploys it."""

_REQUIREMENTS = """
from importlib.metadata import requires
print(chr(10).join(text for text in requires("mayan-edms") if "extra ==" not in text))
"""


class TrialError(Exception):
    """The trial cannot go on; the message says why, and where to look."""


def environment_folder() -> Path:
    """Return where the virtual environment of exactly this release and Python is kept, whether it exists or not."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    words = [VERSION, sys.version, *WITHOUT, *DRIVERS]
    return root / "taskbridge" / f"mayan-{hashlib.sha256(' '.join(words).encode()).hexdigest()[:16]}"


def install(report: Callable[[str], None]) -> Path:
    """
    Return the Python of an environment with Mayan and, freshly built, the bridge.

    Raises TrialError with what pip said.
    """
    folder = environment_folder()
    folder.parent.mkdir(parents=True, exist_ok=True)
    python = folder / "bin" / "python"
    with (folder.parent / "mayan.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            report(f"Installing Mayan EDMS {VERSION} into {folder} (about 400 MB, only this once) ...")
            shutil.rmtree(folder, ignore_errors=True)
            _run(sys.executable, "-m", "venv", str(folder))
            _pip(python, "--no-deps", f"mayan-edms=={VERSION}")
            wanted = _run(str(python), "-c", _REQUIREMENTS).splitlines()
            _pip(python, *(text for text in wanted if not text.startswith(WITHOUT)), *DRIVERS)
            (folder / "complete").touch()
        report("Installing the bridge beside it ...")
        _pip(python, "--force-reinstall", "--no-deps", str(ROOT))
        _pip(python, str(ROOT))
    return python


def package(python: Path) -> Path:
    """Return the folder in which Mayan's package is installed."""
    found = _run(str(python), "-c", "import importlib.util as u; print(u.find_spec('mayan').origin)")
    return Path(found.strip()).parent


def _pip(python: Path, *arguments: str) -> None:
    _run(str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", *arguments)


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        end = "\n".join((done.stdout + done.stderr).splitlines()[-12:])
        raise TrialError(f"`{' '.join(command[:6])} ...` ended with status {done.returncode}:\n{end}")
    return done.stdout
