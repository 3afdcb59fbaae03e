"""
The policy's values as JSON: the state in a resource's status, and saved histories that a decision is explained from.

Fields are named as in the model, in camelCase; those with their default are left out, unknown ones are ignored. A
partition is `topic-number`. A state carries its version, because another release may have written it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, fields, replace
from typing import Any, TypeVar

from lagscaler.policy.model import (
    Decision,
    Gap,
    PartitionSample,
    Sample,
    Spec,
    State,
    TopicPartition,
)

VERSION = 1
"""Of the state's form. One of another version is refused: without a state the policy begins anew, and holds."""

NOTICEABLE = 0.05
"""Share by which a capacity must have changed to be worth a write."""

SELDOM = 300.0
"""Seconds after a write before what is told of last offsets, which changes often, is worth one by itself."""

T = TypeVar("T", Spec, State, Sample, PartitionSample)


def state_document(state: State, *, exact: bool = False) -> dict[str, Any]:
    """Return the JSON form of a state; numbers to the thousandth, which will do for a status, or as they are."""
    return {"version": VERSION, **_fields(state, digits=None if exact else 3)}


def parse_state(document: Any) -> State:
    """Return the state of a JSON form; raise ValueError when it is none of this version."""
    document = _object(document, "state")
    if document.get("version") != VERSION:
        raise ValueError(f"The policy's state has version {document.get('version')!r}; {VERSION} is known.")
    values = dict(document)
    for name in ("baselines", "phantoms", "lost_commits", "awaited", "markers"):
        if _camel(name) in values:
            found = _object(values[_camel(name)], _camel(name))
            values[_camel(name)] = {_key(text): _number(one, _camel(name)) for text, one in found.items()}
    if "changes" in values:
        if not isinstance(values["changes"], list):
            raise ValueError("changes: a list is expected.")
        values["changes"] = tuple(_number(at, "changes") for at in values["changes"])
    return _made(State, values)


def worth_saving(saved: State, state: State) -> bool:
    """Return whether a state differs from the saved one in more than what a restart can do without."""
    if saved == state:
        return False
    old, new = saved.capacity, state.capacity
    if old is not None and new is not None and abs(new - old) <= NOTICEABLE * old:
        saved = replace(saved, capacity=new)
    if (state.last_complete or 0.0) - (saved.last_complete or 0.0) < SELDOM:
        saved = replace(saved, awaited=state.awaited, markers=state.markers)
    return replace(saved, last_complete=None) != replace(state, last_complete=None)


def spec_document(spec: Spec) -> dict[str, Any]:
    """Return the JSON form of a spec; it is the policy's, not that of a KafkaConsumer."""
    return _fields(spec)


def parse_spec(document: Any) -> Spec:
    """Return the spec of a JSON form; raise ValueError when it is none."""
    return _made(Spec, _object(document, "spec"))


def sample_document(sample: Sample) -> dict[str, Any]:
    """Return the JSON form of a sample."""
    document = _fields(sample)
    document["partitions"] = {_name(key): _fields(partition) for key, partition in sample.partitions.items()}
    return document


def parse_sample(document: Any) -> Sample:
    """Return the sample of a JSON form; raise ValueError when it is none."""
    document = _object(document, "sample")
    partitions = _object(document.get("partitions", {}), "partitions")
    gaps = _object(document.get("gaps", {}), "gaps")
    return _made(
        Sample,
        {
            **document,
            "partitions": {
                _key(text): _made(PartitionSample, {"committed": None, **_object(one, text)})
                for text, one in partitions.items()
            },
            "gaps": {Gap(name): str(sentence) for name, sentence in gaps.items()},
        },
    )


def decision_document(decision: Decision) -> dict[str, Any]:
    """Return the JSON form of a decision; nothing is left out of it but the state."""
    return {
        "replicas": decision.replicas,
        "reason": decision.reason.value,
        "sentence": decision.sentence,
        "lag": decision.lag,
        "behind": decision.behind,
        "wait": decision.wait,
        "arrivalRate": decision.arrival_rate,
        "capacity": decision.capacity,
        "needed": decision.needed,
        "partitions": {_name(key): state.value for key, state in decision.partitions.items()},
    }


def _fields(value: Spec | State | Sample | PartitionSample, digits: int | None = None) -> dict[str, Any]:
    document: dict[str, Any] = {}
    for field in fields(value):
        held = getattr(value, field.name)
        if held == field.default or (isinstance(held, Mapping | tuple) and not held):
            continue
        if isinstance(held, Mapping):
            held = {_name(key) if isinstance(key, tuple) else str(key): one for key, one in held.items()}
        elif isinstance(held, tuple):
            held = list(held)
        elif isinstance(held, float) and digits is not None:
            held = round(held, digits)
        document[_camel(field.name)] = held
    return document


def _made(kind: type[T], document: Mapping[str, Any]) -> T:
    values: dict[str, Any] = {}
    for field in fields(kind):
        name = _camel(field.name)
        if name in document:
            values[field.name] = _checked(document[name], str(field.type), name)
        elif field.default is MISSING and field.default_factory is MISSING:
            raise ValueError(f"{kind.__name__}: {name} is missing.")
    return kind(**values)


def _checked(value: Any, kind: str, name: str) -> Any:
    """Return the value if it is of the kind that the model declares; mappings and lists were looked at before."""
    if value is None and kind.endswith("| None"):
        return None
    expected = _KINDS.get(kind.removesuffix(" | None"))
    if expected is None:
        return value
    if not isinstance(value, expected) or (isinstance(value, bool) and expected is not bool):
        raise ValueError(f"{name}: {value!r} is not of the kind that is expected, {kind}.")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{name}: {value!r} is not a finite number.")
    return value


_KINDS: Mapping[str, Any] = {"float": int | float, "int": int, "bool": bool, "str": str, "OffsetReset": str}


def _number(value: Any, name: str) -> float:
    return float(_checked(value, "float", name))


def _object(value: Any, name: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{name}: an object is expected.")  # noqa: TRY004 - the document is wrong, not the call
    return value


def _name(key: TopicPartition) -> str:
    topic, number = key
    return f"{topic}-{number}"


def _key(text: str) -> TopicPartition:
    topic, _, number = text.rpartition("-")
    if not topic or not number.isdecimal():
        raise ValueError(f"{text!r} does not name a partition, such as orders-3.")
    return topic, int(number)


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
