"""What is scaled, and who else would scale it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lagscaler.resources.reading import Key, key_of, version_of


@dataclass(frozen=True, slots=True)
class Target:
    """A Deployment."""

    key: Key
    version: int
    replicas: int
    """What its spec asks for."""
    present: int
    """Pods that are there."""
    ready: int
    """Pods of them that are ready."""
    selector: str
    """Its label selector as a text."""
    writer: str = ""
    """Who wrote the replicas last, as the API server noted; empty when it did not."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Another autoscaler's hold on a target."""

    kind: str
    key: Key
    target: Key


def parse_target(body: Mapping[str, Any]) -> Target:
    """Return a Deployment from the API server's dict."""
    spec, status = body.get("spec") or {}, body.get("status") or {}
    return Target(
        key=key_of(body),
        version=version_of(body),
        replicas=spec.get("replicas", 1),
        present=status.get("replicas", 0),
        ready=status.get("readyReplicas", 0),
        selector=selector_text(spec.get("selector") or {}),
        writer=_writer(body),
    )


def parse_claim(kind: str, body: Mapping[str, Any]) -> Claim | None:
    """Return which Deployment a HorizontalPodAutoscaler or ScaledObject scales; None when it scales another kind."""
    aim = (body.get("spec") or {}).get("scaleTargetRef") or {}
    # A ScaledObject names the kind only where it is none.
    if aim.get("kind", "Deployment") != "Deployment" or not aim.get("name"):
        return None
    key = key_of(body)
    return Claim(kind, key, Key(key.namespace, aim["name"]))


def selector_text(selector: Mapping[str, Any]) -> str:
    """Return a label selector as `kubectl` and the scale subresource write it."""
    parts = [f"{name}={value}" for name, value in sorted((selector.get("matchLabels") or {}).items())]
    for one in selector.get("matchExpressions") or ():
        values = ",".join(sorted(one.get("values") or ()))
        match one["operator"]:
            case "In":
                parts.append(f"{one['key']} in ({values})")
            case "NotIn":
                parts.append(f"{one['key']} notin ({values})")
            case "Exists":
                parts.append(one["key"])
            case "DoesNotExist":
                parts.append(f"!{one['key']}")
    return ",".join(parts)


def _writer(body: Mapping[str, Any]) -> str:
    """Return the newest field manager that owns the replicas."""
    owners = [
        (str(entry.get("time", "")), str(entry.get("manager", "")))
        for entry in body.get("metadata", {}).get("managedFields") or ()
        if "f:replicas" in ((entry.get("fieldsV1") or {}).get("f:spec") or {})
    ]
    return max(owners, default=("", ""))[1]
