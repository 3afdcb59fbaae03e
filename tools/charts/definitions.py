"""What the definitions of custom resources say of the charts: an API server's strict validation, without a server."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft7Validator

__all__ = ["Definitions"]


class Definitions:
    """CustomResourceDefinitions, by what they define."""

    def __init__(self, folders: Iterable[Path]) -> None:
        """Each folder holds YAML files with one definition or several."""
        self._validators: dict[tuple[str, str], Draft7Validator] = {}
        for file in (file for folder in folders for file in sorted(folder.glob("*.yaml"))):
            for definition in yaml.safe_load_all(file.read_text()):
                self._add(definition["spec"])

    def _add(self, spec: Mapping[str, Any]) -> None:
        for version in spec["versions"]:
            if version["served"]:
                schema = _strict(version["schema"]["openAPIV3Schema"])
                self._validators[f"{spec['group']}/{version['name']}", spec["names"]["kind"]] = Draft7Validator(schema)

    def troubles(self, documents: Iterable[Mapping[str, Any]]) -> Sequence[str]:
        """
        Return a sentence for everything that a server would refuse, or drop, of these resources.

        Resources of Kubernetes itself are passed over; rules written in CEL are not looked at.
        """
        groups = {api.partition("/")[0] for api, _ in self._validators}
        found: list[str] = []
        for document in documents:
            kind = str(document["apiVersion"]), str(document["kind"])
            place = f"{kind[1]} {document['metadata']['name']}"
            if kind in self._validators:
                # The server itself looks after these three.
                body = {key: value for key, value in document.items() if key not in {"apiVersion", "kind", "metadata"}}
                errors = self._validators[kind].iter_errors(body)
                found.extend(f"{place}: {error.json_path.removeprefix('$.')}: {error.message}" for error in errors)
            elif kind[0].partition("/")[0] in groups:
                found.append(f"{place}: there is no {kind[1]} in {kind[0]}")
        return found


def _strict(schema: Any) -> Any:
    """Return a schema that refuses the fields which a server, following the given one, would drop."""
    if isinstance(schema, list):
        return [_strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    strict: dict[str, Any] = {}
    for key, value in schema.items():
        # Below these three, keys are names of fields or values, not words of the schema.
        if key == "properties":
            strict[key] = {name: _strict(inner) for name, inner in value.items()}
        elif key in {"enum", "default", "example", "required"}:
            strict[key] = value
        elif key in {"oneOf", "anyOf", "allOf", "not"}:
            # They only restrict what is described beside them, and name a part of the fields.
            strict[key] = value
        else:
            strict[key] = _strict(value)
    free = schema.get("x-kubernetes-preserve-unknown-fields") or schema.get("x-kubernetes-embedded-resource")
    if "properties" in schema and "additionalProperties" not in schema and not free:
        strict["additionalProperties"] = False
    return strict
