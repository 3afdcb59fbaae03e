"""The state file: what runs where, and the one place that holds the passwords."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from devstack.errors import DevstackError
from devstack.process import ProcessId

__all__ = ["ServiceState", "lock", "mask", "read", "write"]

_FILE = "state.json"
_VERSION = 1


@dataclass
class ServiceState:
    """What must be known to use, find and end a service. Ports and password outlive its processes."""

    ports: dict[str, int] = field(default_factory=dict)
    password: str = ""
    guard: ProcessId | None = None
    server: ProcessId | None = None

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> Self:
        """Return the state that `asdict` turned into `raw`."""
        guard, server = (ProcessId(**raw[name]) if raw[name] else None for name in ("guard", "server"))
        return cls({name: int(port) for name, port in raw["ports"].items()}, raw["password"], guard, server)


def read(directory: Path) -> dict[str, ServiceState]:
    """Return the recorded services by name; empty when nothing was ever started there."""
    path = directory / _FILE
    try:
        raw = json.loads(path.read_text())
        if raw["version"] != _VERSION:
            raise DevstackError(f"{path} was written by another version: end its processes and remove {directory}.")
        return {name: ServiceState.from_json(service) for name, service in raw["services"].items()}
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError, AttributeError) as malformed:
        raise DevstackError(f"{path} is not a state file ({malformed}): remove it and start again.") from malformed


def write(directory: Path, services: dict[str, ServiceState]) -> None:
    """Replace the state file; only its owner may read it."""
    path = directory / _FILE
    draft = path.with_suffix(".draft")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump({"version": _VERSION, "services": {n: asdict(s) for n, s in services.items()}}, file, indent=2)
    draft.replace(path)


@contextmanager
def lock(directory: Path) -> Iterator[None]:
    """Hold the directory for one change at a time, between processes; waits for its turn."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (directory / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def mask(url: str) -> str:
    """Return the URL with its password replaced by `***`."""
    scheme, separator, rest = url.partition("://")
    login, at, place = rest.rpartition("@")
    if not separator or not at:
        return url
    user, colon, _ = login.partition(":")
    return f"{scheme}://{user}{':***' if colon else ''}@{place}"
