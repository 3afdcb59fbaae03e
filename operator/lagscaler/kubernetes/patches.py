"""Changes of a status, as the API server takes them for one resource and for no other of its name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """Return the members in which two statuses differ, as they are to be: None for one that is to go."""
    return {name: after.get(name) for name in {**before, **after} if before.get(name) != after.get(name)}


def operations(uid: str, patch: Mapping[str, Any], *, first: bool) -> list[dict[str, Any]]:
    """
    Return such changes as a JSON Patch (RFC 6902); `first` says that there is no status yet.

    A merge patch cannot name whom it is meant for: on the status of a custom resource the API server puts the stored
    metadata in place of the patch's, the uid included, and so it would land on whoever bears the name by now.
    """
    found: list[dict[str, Any]] = [{"op": "test", "path": "/metadata/uid", "value": uid}]
    if first:
        whole = {name: value for name, value in patch.items() if value is not None}
        return [*found, {"op": "add", "path": "/status", "value": whole}]
    for name, value in patch.items():
        found.append({"op": "add", "path": f"/status/{name}", "value": value})
        if value is None:
            # What is not there cannot be removed, and may have gone unseen.
            found.append({"op": "remove", "path": f"/status/{name}"})
    return found
