"""The CRDs of charts/operator, read without Helm."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).resolve().parents[3] / "charts" / "operator" / "templates" / "crds"


def definition(plural: str) -> dict[str, Any]:
    """Return a CRD as the chart renders it with `crds.install`."""
    lines = (FOLDER / f"{plural}.yaml").read_text(encoding="utf-8").splitlines()
    return dict(yaml.safe_load("\n".join(line for line in lines if not line.startswith("{{"))))


def schema_of(found: Mapping[str, Any], part: str) -> dict[str, Any]:
    """Return the schema of `spec` or `status`."""
    return dict(found["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"][part])


def completed(found: Mapping[str, Any], spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return a spec with the defaults of its CRD, as the API server fills them in."""
    return dict(_completed(schema_of(found, "spec"), deepcopy(dict(spec))))


def _completed(schema: Mapping[str, Any], value: Any) -> Any:
    if isinstance(value, dict):
        for name, inner in schema.get("properties", {}).items():
            if name not in value and "default" in inner:
                value[name] = deepcopy(inner["default"])
            if name in value:
                value[name] = _completed(inner, value[name])
    return value


def fields(schema: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every field of a schema with its path."""
    for name, inner in schema.get("properties", {}).items():
        yield f"{path}{name}", inner
        yield from fields(inner, f"{path}{name}.")
    items = schema.get("items")
    if isinstance(items, dict):
        yield from fields(items, f"{path}[].")
