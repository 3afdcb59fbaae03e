"""
Which request a Cutover's spec makes, compared with the one that was dealt with last.

Pure. A generation of the spec makes one request at most, and one that was superseded before it was sent makes none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from lagscaler.resources.cutover import Cutover, Wish, parse_wish, step_words
from lagscaler.resources.reading import InvalidResourceError, Section

Action = Literal["move", "hold", "release", "kill"]


@dataclass(frozen=True, slots=True)
class Asked:
    """A request to the bridge."""

    action: Action
    stage: str | None
    percent: float | None

    @property
    def words(self) -> str:
        """What is asked, as people say it."""
        return f"move to {step_words(self.stage, self.percent)}" if self.action == "move" else self.action


def settled(cutover: Cutover) -> bool:
    """Return whether the spec as it stands was dealt with."""
    return _last(cutover).get("generation") == cutover.generation


def asked(cutover: Cutover) -> Asked | None:
    """
    Return what the spec asks for that was not asked yet; None when that is nothing.

    A kill goes before anything else, then a change of hold. A move is asked for by a change of stage or percentage, and
    again by a new reason or an override; taking a kill or a hold back asks for no move, so that nothing goes forward by
    the way.
    """
    wish, before = cutover.wish, _before(cutover)
    if settled(cutover):
        return None
    if wish.kill and wish != before:
        return Asked("kill", None, None)
    if wish.hold != before.hold:
        return Asked("hold" if wish.hold else "release", None, None)
    moved = (wish.stage, wish.percent) != (before.stage, before.percent)
    again = (wish.reason, wish.override) != (before.reason, before.override) and not before.kill
    if wish.stage is not None and (moved or again):
        return Asked("move", wish.stage, wish.percent)
    return None


def body_of(cutover: Cutover, request: Asked) -> dict[str, Any]:
    """Return the request as the bridge's API takes it; its id makes a repetition harmless."""
    body: dict[str, Any] = {
        "action": request.action,
        "request_id": f"{cutover.uid}.{cutover.generation}",
        "reason": cutover.wish.reason,
    }
    if request.action == "move":
        body |= {"stage": request.stage, "override": cutover.wish.override}
        if request.percent is not None:
            body["percent"] = request.percent
    if cutover.requested_by:
        body["requested_by"] = cutover.requested_by
    return body


def _last(cutover: Cutover) -> Mapping[str, Any]:
    found: Mapping[str, Any] = cutover.status.get("request") or {}
    return found


def _before(cutover: Cutover) -> Wish:
    """Return the spec that was dealt with last; one that asks for nothing when there was none."""
    try:
        return parse_wish(Section(_last(cutover).get("spec"), "status.request.spec"))
    except InvalidResourceError:
        return Wish()
