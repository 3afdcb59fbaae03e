"""How this machine reaches package indexes, for the time of a build only: nothing of it goes into an image."""

from __future__ import annotations

import ast
import configparser
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

__all__ = ["listed", "pip_settings", "secrets"]

_SECTIONS = ("global", "install", ":env:")
"""Sections of pip's configuration that are about installing, the ones that win last."""

_KEPT = ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout", "default-timeout", "retries")
"""What of pip's configuration means the same inside a build. Folders of this machine do not."""

_AUTHORITIES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


def listed() -> str:
    """Return what `pip config list` says here: pip's files, and its environment over them; nothing without a pip."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def pip_settings(text: str) -> dict[str, str]:
    """Return the settings that installing obeys, out of the lines of `pip config list`."""
    found: dict[str, tuple[int, str]] = {}
    for line in text.splitlines():
        name, separator, value = line.partition("=")
        section, dot, key = name.rpartition(".")
        if separator and dot and section in _SECTIONS:
            rank = _SECTIONS.index(section)
            if key not in found or rank >= found[key][0]:
                found[key] = rank, str(ast.literal_eval(value)).strip()
    return {key: value for key, (_, value) in found.items()}


def secrets(folder: Path, settings: Mapping[str, str], environ: Mapping[str, str] = os.environ) -> dict[str, Path]:
    """
    Write pip's settings and the certificate authorities into a private folder; return them by the ids of secrets.

    The Containerfiles mount them at /run/secrets where they install something.
    """
    authorities = settings.get("cert") or next((environ[name] for name in _AUTHORITIES if environ.get(name)), None)
    found = {"pip.conf": folder / "pip.conf"}
    pip = configparser.RawConfigParser()
    pip["global"] = {name: value for name, value in settings.items() if name in _KEPT}
    if authorities and Path(authorities).is_file():
        found["authorities.crt"] = folder / "authorities.crt"
        found["authorities.crt"].write_bytes(Path(authorities).read_bytes())
        pip["global"]["cert"] = "/run/secrets/authorities.crt"
    with found["pip.conf"].open("w") as file:
        pip.write(file)
    return found
