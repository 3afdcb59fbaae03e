"""A Cutover: what is asked of the bridge for one service."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lagscaler.resources.reading import InvalidResourceError, Key, Section, key_of, version_of

STAGES = ("off", "mirror", "shadow", "live", "complete")
"""The bridge's stages, in the order of the way forward."""

PARTIAL = frozenset({"shadow", "live"})
"""Stages that apply to a percentage of the keys."""

REQUESTED_BY = "taskbridge.dev/requested-by"
"""The annotation that says on whose behalf a request is made."""


@dataclass(frozen=True, slots=True)
class Wish:
    """The part of a Cutover's spec that makes requests."""

    stage: str | None = None
    percent: float | None = None
    hold: bool = False
    kill: bool = False
    override: bool = False
    reason: str = ""

    def document(self) -> dict[str, Any]:
        """Return it as the status remembers it."""
        return {
            "stage": self.stage,
            "percent": self.percent,
            "hold": self.hold,
            "kill": self.kill,
            "override": self.override,
            "reason": self.reason,
        }

    @property
    def words(self) -> str:
        """What is asked for, as the column Requested shows it; empty for nothing."""
        asked = "kill" if self.kill else step_words(self.stage, self.percent)
        return asked + (" (hold)" if self.hold else "")


@dataclass(frozen=True, slots=True)
class Cutover:
    """One of them, as its owner wrote it, with the status that it has."""

    key: Key
    uid: str
    generation: int
    created: str
    version: int
    service: str
    bridge: str
    wish: Wish
    requested_by: str = ""
    status: Mapping[str, Any] = field(default_factory=dict)

    @property
    def seniority(self) -> tuple[str, str]:
        """What puts the older of two resources first, the same way after every restart."""
        return (self.created, self.uid)


def step_words(stage: str | None, percent: float | None) -> str:
    """Return a stage as people write it: `live 10%`, `mirror`; empty for none."""
    if stage is None:
        return ""
    return f"{stage} {percent:g}%" if stage in PARTIAL and percent is not None else stage


def parse_wish(section: Section) -> Wish:
    """Return a wish from a spec, or from the one that a status remembers; raise InvalidResourceError."""
    stage = section.text("stage") if "stage" in section else None
    if stage is not None and stage not in STAGES:
        raise InvalidResourceError(f"spec.stage is {stage!r}; known are {', '.join(STAGES)}")
    return Wish(
        stage=stage,
        # A merge patch from `live` back to `off` leaves the percentage where it was: it means nothing there.
        percent=section.number("percent", 0) if "percent" in section and stage in PARTIAL else None,
        hold=section.flag("hold", default=False),
        kill=section.flag("kill", default=False),
        override=section.flag("override", default=False),
        reason=section.text("reason", ""),
    )


def parse_cutover(body: Mapping[str, Any], *, strict: bool = False) -> Cutover:
    """
    Return a Cutover from the API server's dict; raise InvalidResourceError with the field.

    `strict` refuses unknown fields, too; what comes from the API server may be of a newer CRD.
    """
    spec = Section(body.get("spec"), "spec")
    metadata = body["metadata"]
    found = Cutover(
        key=key_of(body),
        uid=metadata.get("uid", ""),
        generation=metadata.get("generation", 1),
        created=metadata.get("creationTimestamp", ""),
        version=version_of(body),
        service=spec.text("service"),
        bridge=spec.text("bridge", "main"),
        wish=parse_wish(spec),
        requested_by=(metadata.get("annotations") or {}).get(REQUESTED_BY, ""),
        status=body.get("status") or {},
    )
    if strict:
        spec.done()
    return found
