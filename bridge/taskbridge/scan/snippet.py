"""The settings that a scan suggests, as Python source."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from textwrap import wrap

from taskbridge.scan.behaviours import Level
from taskbridge.scan.judge import Judged, Result
from taskbridge.scan.services import Service

WIDTH = 100


def snippet(result: Result, prefix: str) -> str:
    """Return a module that defines `TASKBRIDGE`; comments say what the values do not."""
    lines = [
        "# Suggested by `taskbridge init`. Read it before you use it: which tasks belong together, and which argument",
        "# is what a task is about, only you know.",
        "TASKBRIDGE = {",
        f'    "prefix": {json.dumps(prefix)},',
        '    "services": {',
    ]
    for service in result.services:
        own = [item for item in result.tasks if item.service == service.name]
        lines.extend(f"        # {line}" for remark in _remarks(own) for line in wrap(remark, WIDTH))
        lines.extend(_service(service, result.mapping(service)))
    return "\n".join([*lines, "    },", "}", ""])


def _service(service: Service, mapping: Mapping[str, object]) -> Iterator[str]:
    yield f"        {json.dumps(service.name)}: {{"
    for name, value in mapping.items():
        text = json.dumps(value, ensure_ascii=False)
        if len(text) + len(name) + 16 <= WIDTH:
            yield f'            "{name}": {text},'
            continue
        opening, closing = ("[", "]") if isinstance(value, list) else ("{", "}")
        yield f'            "{name}": {opening}'
        entries = value if isinstance(value, list) else value.items() if isinstance(value, Mapping) else ()
        for entry in entries:
            shown = json.dumps(entry) if isinstance(entry, str) else ": ".join(map(json.dumps, entry))
            yield f"                {shown},"
        yield f"            {closing},"
    yield "        },"


def _remarks(own: Sequence[Judged]) -> Iterator[str]:
    yield f"{len(own)} {'task' if len(own) == 1 else 'tasks'}: {', '.join(_short(item) for item in own)}"
    for item in own:
        for finding in item.findings:
            if finding.level is Level.STOPS:
                yield f"Stays in mirror: {_short(item)} uses {finding.text}"
    modes: dict[str, list[Judged]] = {}
    for item in own:
        modes.setdefault(item.publish.mode, []).append(item)
    for mode in ("outbox", "barrier"):
        if items := modes.get(mode):
            first = items[0]
            yield (
                f'"publish": "{mode}" would suit {", ".join(map(_short, items))}: {first.publish.reason} '
                f"({first.publish.place})"
            )
    doubtful = [item for item in own if item.key is not None and item.key.confidence == "low"]
    if doubtful:
        yield "Perhaps keys: " + ", ".join(f"{item.key.argument} of {_short(item)}" for item in doubtful if item.key)


def _short(item: Judged) -> str:
    return item.task.name.rpartition(".")[2]
