"""
Which requests a Cutover's spec makes, compared with the one that was dealt with last.

Pure. A generation of the spec makes its requests once, and one that was superseded before it was sent makes none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from lagscaler.resources.cutover import Cutover, Wish, parse_wish, step_words
from lagscaler.resources.reading import InvalidResourceError, Section

Action = Literal["move", "hold", "release", "kill"]

LONGEST_NAME = 200
"""Characters of on whose behalf a request is made that the bridge takes."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request to the bridge."""

    action: Action
    stage: str | None = None
    percent: float | None = None

    @property
    def words(self) -> str:
        """What is asked, as people say it."""
        return f"move to {step_words(self.stage, self.percent)}" if self.action == "move" else self.action


def settled(cutover: Cutover) -> bool:
    """Return whether the spec as it stands was dealt with."""
    return _last(cutover).get("generation") == cutover.generation


def asked(cutover: Cutover) -> tuple[Asked, ...]:
    """
    Return what the spec asks for that was not asked yet, in the order in which it is to be sent.

    A kill goes before anything else and takes the place of a move, then comes a change of hold, then the move. A move
    is asked for by a change of stage or percentage, and again by a new reason or an override, unless that is said of a
    hold; taking a kill or a hold back asks for no move, so that nothing goes forward by the way.

    What was sent and got no answer may have been carried out or not: what differs from either is asked for. Of
    generations that nobody saw, one may have taken a kill back which this one asks for anew; once too often does no
    harm.
    """
    if settled(cutover):
        return ()
    wish, before = cutover.wish, (_before(cutover), *_sent(cutover))
    found: list[Asked] = []
    unseen = cutover.generation - _last(cutover).get("generation", 0) > 1
    killed = wish.kill and (unseen or any(replace(wish, hold=one.hold) != one for one in before))
    if killed:
        found.append(Asked("kill"))
    if held := any(wish.hold != one.hold for one in before):
        found.append(Asked("hold" if wish.hold else "release"))
    if wish.stage is None or killed:
        return tuple(found)
    # What was asked for before a kill is as much in the past as if the kill had been answered.
    killing = [number for number, one in enumerate(before) if one.kill]
    moved = any((wish.stage, wish.percent) != (one.stage, one.percent) for one in before[max(killing, default=0) :])
    again = any((wish.reason, wish.override) != (one.reason, one.override) for one in before)
    if moved or (again and not held and not killing):
        found.append(Asked("move", wish.stage, wish.percent))
    return tuple(found)


def body_of(cutover: Cutover, request: Asked, *, first: bool) -> dict[str, Any]:
    """
    Return a request as the bridge's API takes it; its id makes a repetition harmless.

    `first` says that it is the first of its generation: further ones have an id of their own.
    """
    name = f"{cutover.uid}.{cutover.generation}"
    body: dict[str, Any] = {
        "action": request.action,
        "request_id": name if first else f"{name}.{request.action}",
        "reason": _printable(cutover.wish.reason, besides="\n\t"),
    }
    if request.action == "move":
        body |= {"stage": request.stage, "override": cutover.wish.override}
        if request.percent is not None:
            body["percent"] = request.percent
    if requested_by := _printable(cutover.requested_by)[:LONGEST_NAME].strip():
        body["requested_by"] = requested_by
    return body


def with_sent(cutover: Cutover) -> dict[str, Any]:
    """Return what the status keeps of requests once the spec as it stands is sent, until there is an answer."""
    last = dict(_last(cutover))
    found = list(last.get("sent") or ())
    wish = kept(cutover.wish)
    return last | {"sent": found if wish in found else [*found, wish]}


def basis(cutover: Cutover, undone: Sequence[Asked] = ()) -> Wish:
    """
    Return the spec that the next one is to be compared with, once this one was dealt with.

    `undone` are the requests that were not carried out: the first was refused, those after it were not sent. What was
    not sent is asked for by the next change, and so is a hold that was refused; a move that was refused is not, unless
    the reason is a new one.
    """
    wish, before = cutover.wish, _before(cutover)
    if any(one.action in {"hold", "release"} for one in undone):
        wish = replace(wish, hold=before.hold)
    if any(one.action == "move" for one in undone[1:]):
        wish = replace(wish, stage=before.stage, percent=before.percent)
    return wish


def kept(wish: Wish) -> dict[str, Any]:
    """Return a spec as the status keeps it."""
    return {name: value for name, value in wish.document().items() if value is not None}


def _printable(text: str, besides: str = "") -> str:
    """Return a text with spaces for what the bridge does not take: a kill is not to fail over a pasted character."""
    return "".join(one if one.isprintable() or one in besides else " " for one in text)


def _last(cutover: Cutover) -> Mapping[str, Any]:
    found: Mapping[str, Any] = cutover.status.get("request") or {}
    return found


def _before(cutover: Cutover) -> Wish:
    """Return the spec that was dealt with last; one that asks for nothing when there was none."""
    return _wish(_last(cutover).get("spec"))


def _sent(cutover: Cutover) -> tuple[Wish, ...]:
    """Return the specs that were sent since, and not answered, the oldest first."""
    return tuple(_wish(one) for one in _last(cutover).get("sent") or ())


def _wish(found: Any) -> Wish:
    try:
        return parse_wish(Section(found, "status.request"))
    except InvalidResourceError:
        return Wish()
