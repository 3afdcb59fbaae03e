"""Taking values out of the dicts of the API server."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

GROUP, VERSION = "taskbridge.dev", "v1alpha1"
"""The API group and version of the project's own resources."""


class InvalidResourceError(Exception):
    """A resource is not as its CRD says, which happens when the CRD is older or newer than the operator."""


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """Where a resource is, within its kind."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


def key_of(body: Mapping[str, Any]) -> Key:
    """Return the namespace and name of a resource."""
    metadata = body["metadata"]
    return Key(metadata.get("namespace", ""), metadata["name"])


def version_of(body: Mapping[str, Any]) -> int:
    """Return the resource version as a number, by which two of one resource can be ordered; 0 when it is none."""
    text = str(body.get("metadata", {}).get("resourceVersion", ""))
    return int(text) if text.isdecimal() else 0


def time_text(at: float) -> str:
    """Return a time as the API server writes it, to the second."""
    return datetime.fromtimestamp(int(at), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Section:
    """A mapping inside a resource, with the place of each value for what is said about it."""

    def __init__(self, found: Any, where: str = "") -> None:
        """Raise InvalidResourceError for what is not a mapping; None is an empty one."""
        if found is not None and not isinstance(found, Mapping):
            raise InvalidResourceError(f"{where or 'it'} is not a mapping")
        self._found: Mapping[str, Any] = found or {}
        self._where = where
        self._asked: set[str] = set()
        self._sections: list[Section] = []

    def __contains__(self, name: str) -> bool:
        return self._get(name) is not None

    def section(self, name: str) -> Section:
        """Return a mapping inside this one; an empty one when it is missing."""
        found = Section(self._get(name), self._place(name))
        self._sections.append(found)
        return found

    def done(self) -> None:
        """Raise InvalidResourceError for a field that nobody asked for, in this mapping or in one of its sections."""
        unknown = [name for name in self._found if name not in self._asked]
        if unknown:
            where = f"{self._where}: " if self._where else ""
            raise InvalidResourceError(f"{where}there is no field {unknown[0]!r}")
        for section in self._sections:
            section.done()

    def text(self, name: str, default: str | None = None) -> str:
        """Return a text; without a default it must be there."""
        found = self._get(name, default)
        if not isinstance(found, str) or (found == "" and default is None):
            raise self._invalid(name, "a text")
        return found

    def flag(self, name: str, *, default: bool) -> bool:
        """Return true or false."""
        found = self._get(name, default)
        if not isinstance(found, bool):
            raise self._invalid(name, "true or false")
        return found

    def number(self, name: str, default: float) -> float:
        """Return a number."""
        found = self._get(name, default)
        if not isinstance(found, int | float) or isinstance(found, bool) or not math.isfinite(found):
            raise self._invalid(name, "a number")
        return float(found)

    def whole(self, name: str, default: int) -> int:
        """Return a whole number."""
        found = self.number(name, default)
        if found != int(found):
            raise self._invalid(name, "a whole number")
        return int(found)

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a list of texts that has at least one."""
        found = self._get(name)
        if not isinstance(found, list) or not found or not all(isinstance(one, str) and one for one in found):
            raise self._invalid(name, "a list of names")
        return tuple(found)

    def _get(self, name: str, default: Any = None) -> Any:
        self._asked.add(name)
        return self._found.get(name, default)

    def _place(self, name: str) -> str:
        return f"{self._where}.{name}" if self._where else name

    def _invalid(self, name: str, words: str) -> InvalidResourceError:
        found = self._found.get(name)
        state = "is missing" if found is None else f"must be {words}, not {found!r}"
        return InvalidResourceError(f"{self._place(name)} {state}")
