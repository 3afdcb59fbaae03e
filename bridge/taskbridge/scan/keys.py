"""Which argument of a task is the thing that it is about."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from taskbridge.scan.effects import Confidence
from taskbridge.scan.facts import Call, Parameter, Task

_NAMES_A_THING = re.compile(r"(.+_)?(id|pk|uuid|guid)$|.+_key$")
_NOT_A_KEY = re.compile(r"(.*_)?task_id$|request_id$|trace_id$|correlation_id$|content_type_(id|pk)$")
"""Ids of tasks and requests are others at every call, and a content type is shared by too many."""


@dataclass(frozen=True, slots=True)
class Key:
    """The suggested business key of a task."""

    argument: str
    confidence: Confidence
    reason: str


def suggest_key(task: Task, calls: Iterable[Call], siblings: Counter[str]) -> Key | None:
    """
    Return the argument whose value should decide side, partition and order, or None when nothing names a thing.

    Required arguments come before optional ones; among several, the one that most of the service's other tasks have
    (`siblings` counts them), then the first.
    """
    candidates = [item for item in task.parameters if _is_candidate(item)]
    if not candidates:
        return None
    required = [item for item in candidates if item.required]
    names = [item.name for item in task.parameters]
    chosen = max(required or candidates, key=lambda item: (siblings[item.name], -names.index(item.name)))
    given = [call for call in calls if call.options | call.keywords or call.positional]
    passed = sum(_passes(call, names, chosen.name) for call in given)
    reason = f"{'a required' if chosen.required else 'an optional'} argument named like an identifier"
    if siblings[chosen.name] > 1:
        reason += f", which {siblings[chosen.name]} tasks of the service have"
    if given:
        reason += f"; passed at {passed} of {len(given)} places"
    if not chosen.required or (given and not passed):
        return Key(chosen.name, "low", reason)
    sure = len(required) == 1 or siblings[chosen.name] > 1
    return Key(chosen.name, "high" if sure and passed == len(given) else "medium", reason)


def count_candidates(tasks: Sequence[Task]) -> Counter[str]:
    """Return how many of these tasks have an argument of each name that could be a key."""
    return Counter(item.name for task in tasks for item in task.parameters if _is_candidate(item))


def _is_candidate(parameter: Parameter) -> bool:
    return bool(_NAMES_A_THING.match(parameter.name)) and not _NOT_A_KEY.match(parameter.name)


def _passes(call: Call, names: Sequence[str], argument: str) -> bool:
    return argument in call.keywords or names.index(argument) < call.positional
