"""The scan on the terminal: services with their tasks, then what behaves differently, then what is wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from rich.console import Console
from rich.markup import escape

from taskbridge.scan import BEHAVIOURS, Finding, Judged, Level, Result

_MARKS = {Level.STOPS: "[red]stops[/]", Level.DIFFERS: "[yellow]differs[/]"}

SHOWN_PLACES = 3
"""Places named for one feature; the JSON document has all."""


def show(result: Result, console: Console) -> None:
    """Print a scan for people."""
    widths = [max((len(cell) for cell in column), default=0) for column in zip(*map(_cells, result.tasks), strict=True)]
    for service in result.services:
        own = [item for item in result.tasks if item.service == service.name]
        console.print(f"[bold]{service.name}[/]: {_count(len(own), 'task')}", highlight=False)
        for item in own:
            _show_task(item, widths, console)
        console.print()
    _show_findings([finding for item in result.tasks for finding in item.findings], console)
    _show_project(result.findings, console)
    for file in result.unreadable:
        console.print(f"[yellow]not read:[/] {escape(file.file)}: {escape(file.reason)}", highlight=False)
    stops, differs = result.count(Level.STOPS), result.count(Level.DIFFERS)
    stopped = sum(any(finding.level is Level.STOPS for finding in item.findings) for item in result.tasks)
    read = f"{_count(len(result.services), 'service')}, {_count(result.files, 'file')} read"
    console.print(
        f"{_count(len(result.tasks), 'task')} in {read}: "
        f"{_count(stops, 'finding')} in {_count(stopped, 'task')} stop it from moving, {differs} behave differently.",
        highlight=False,
        soft_wrap=True,
    )
    if result.app is not None:
        console.print("Settings for these services: taskbridge init", highlight=False)


def _show_task(item: Judged, widths: list[int], console: Console) -> None:
    cells = (f"{cell:<{width}}" for cell, width in zip(_cells(item), widths, strict=True))
    console.print(f"  {escape('  '.join(cells))}", highlight=False, soft_wrap=True)
    uses = " ".join(_feature(name) for name in item.features)
    console.print(f"    [dim]{escape(str(item.task.place))}[/]  {uses}", highlight=False, soft_wrap=True)


def _cells(item: Judged) -> tuple[str, ...]:
    key = _doubtful(item.key.argument, item.key.confidence) if item.key else "-"
    return (
        _short(item.task.name),
        f"queue {item.task.queue or '-'}",
        f"key {key}",
        f"effects {_doubtful(item.effects.effects, item.effects.confidence)}",
        f"publish {item.publish.mode}",
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _short(name: str) -> str:
    return name.rpartition(".")[2]


def _doubtful(text: str, confidence: str) -> str:
    return f"{text}?" if confidence == "low" else text


def _feature(name: str) -> str:
    colour = {Level.STOPS: "red", Level.DIFFERS: "yellow"}.get(BEHAVIOURS[name].level)
    return f"[{colour}]{name}[/]" if colour else name


def _show_findings(findings: Iterable[Finding], console: Console) -> None:
    grouped: dict[str, list[Finding]] = {}
    for finding in findings:
        grouped.setdefault(finding.feature, []).append(finding)
    levels = list(Level)
    for feature in sorted(grouped, key=lambda name: (levels.index(BEHAVIOURS[name].level), name)):
        own = grouped[feature]
        behaviour = BEHAVIOURS[feature]
        count = len({finding.task for finding in own})
        console.print(
            f"{_MARKS[behaviour.level]} [bold]{feature}[/] ({_count(count, 'task')}): {escape(behaviour.sentence)}.",
            highlight=False,
        )
        if behaviour.level is Level.STOPS:
            for finding in own:
                text = f"  {_short(finding.task)} uses {finding.text} at {finding.place}"
                console.print(escape(f"{text}: {finding.remedy}" if finding.remedy else text), highlight=False)
        else:
            places = sorted({finding.place for finding in own})
            rest = f" and {len(places) - SHOWN_PLACES} more" if len(places) > SHOWN_PLACES else ""
            console.print(escape(f"  {', '.join(map(str, places[:SHOWN_PLACES]))}{rest}"), style="dim", highlight=False)
    if grouped:
        console.print()


def _show_project(findings: Iterable[Finding], console: Console) -> None:
    counts = Counter(finding.feature for finding in findings)
    for feature in counts:
        behaviour = BEHAVIOURS[feature]
        console.print(f"{_MARKS[behaviour.level]} [bold]{feature}[/]: {escape(behaviour.sentence)}.", highlight=False)
        for finding in findings:
            if finding.feature == feature:
                console.print(escape(f"  {finding.place}: {finding.text}"), highlight=False)
    if counts:
        console.print()
