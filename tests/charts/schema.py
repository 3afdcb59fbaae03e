"""The values of a chart and the schema that guards them, as its tests look at them."""

from __future__ import annotations

import copy
import json
from collections.abc import Container, Iterator
from typing import Any

import yaml
from jsonschema import Draft7Validator

from charts.render import find

Path = tuple[str, ...]


class Guarded:
    """A chart's own values, and what its schema says of others; `free` names the maps whose keys are the user's."""

    def __init__(self, chart: str, free: Container[str]) -> None:
        self.chart = find(chart)
        self.values: dict[str, Any] = yaml.safe_load((self.chart.path / "values.yaml").read_text())
        self.schema: dict[str, Any] = json.loads((self.chart.path / "values.schema.json").read_text())
        Draft7Validator.check_schema(self.schema)
        self.keys = dict(_walk(self.values, (), free))

    def changed(self, path: Path, value: Any) -> dict[str, Any]:
        """Return the chart's values with another one at `path`."""
        values = copy.deepcopy(self.values)
        parent = values
        for key in path[:-1]:
            parent = parent.setdefault(key, {})
        parent[path[-1]] = value
        return values

    def refused(self, values: dict[str, Any]) -> set[Path]:
        """Return the paths at which the schema refuses something."""
        places: set[Path] = set()
        errors = list(Draft7Validator(self.schema).iter_errors(values))
        while errors:
            error = errors.pop()
            errors += error.context or []
            places.add(tuple(str(part) for part in error.absolute_path))
        return places

    def refuses(self, path: Path, value: Any) -> bool:
        """Say whether `value` at `path` is refused, at this place and not at another."""
        return any(place[: len(path) - 1] == path[:-1] for place in self.refused(self.changed(path, value)))

    def of_another_type(self, path: Path) -> Any:
        """Return a value that cannot stand at `path`."""
        mine = self.keys[path]
        if isinstance(mine, str) and path[-1] in {"size", "tmpSize", "cpu", "memory", "ephemeral-storage"}:
            return True
        return 7.5 if isinstance(mine, str | dict | list | bool) else "7"


def _walk(values: dict[str, Any], path: Path, free: Container[str]) -> Iterator[tuple[Path, Any]]:
    """Yield every key of the values with what stands there, those of lists excepted."""
    for key, value in values.items():
        yield (*path, key), value
        if isinstance(value, dict) and ".".join((*path, key)) not in free:
            yield from _walk(value, (*path, key), free)


def described(properties: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each property of a schema by its dotted path, with what the schema says of it."""
    for name, schema in properties.items():
        yield f"{path}{name}", schema
        yield from described(schema.get("properties", {}), f"{path}{name}.")
