"""The report's document on a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

COLOURS = {"AGREE": "green", "DISAGREE": "red", "INSUFFICIENT": "yellow", "INVALID": "red"}

Document = Mapping[str, Any]


def show(document: Document, console: Console) -> None:
    """Print the report: of each service the verdict first, then what it rests on."""
    services = document["services"]
    for service in services:
        _show_service(service, document, console)
    if document["malformed_records"]:
        console.print(
            f"\nnote: {document['malformed_records']:,} observation records could not be read; they were skipped"
        )
    if len(services) > 1:
        console.rule()
        for service in services:
            console.print(f"{_coloured(service['verdict']):<12}  {service['service']}", highlight=False)
        console.print(f"{_coloured(document['verdict'])} over all {len(services)} services", highlight=False)


def _show_service(service: Document, document: Document, console: Console) -> None:
    console.rule(f"[bold]{service['service']}")
    word, _, rest = service["sentence"].partition(":")
    console.print(f"[bold]{_coloured(word)}[/bold]:{escape(rest)}", highlight=False)
    console.print(f"next      {service['next']}", highlight=False, style="bold", soft_wrap=True)
    if service["rollback"]:
        console.print(f"rollback  {service['rollback']}", highlight=False, soft_wrap=True)
    console.print(_scope(service, document), highlight=False, style="dim")
    if service["traffic"]:
        console.print(_traffic(service))
    console.print(_classes(service))
    if service["tasks"]:
        console.print(_outcomes(service))
        console.print(_durations(service))
    for note in _notes(service, document):
        console.print(f"note: {note}", highlight=False)
    _show_findings(service, console)


def _coloured(verdict: str) -> str:
    return f"[{COLOURS[verdict]}]{verdict}[/]"


def _scope(service: Document, document: Document) -> str:
    start = _moment(document["since"]) if document["since"] is not None else "the beginning"
    words = [f"observed from {start} to {_moment(document['until'])}, horizon {document['horizon']:g} s"]
    if document["task"]:
        words.append(f"tasks {document['task']}")
    if service["stage"]:
        percent = f" {service['percent']:g}%" if service["stage"] == "live" and service["percent"] is not None else ""
        words.append(f"stage {service['stage']}{percent}, epoch {service['epoch']}")
    return "; ".join(words)


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if not number else "right", overflow="fold", no_wrap=bool(number))
    return table


def _traffic(service: Document) -> Table:
    table = _table("\nTraffic", "stage", "epoch", "sent to", "dispatched")
    for row in service["traffic"]:
        table.add_row(row["stage"], str(row["epoch"]), row["route"], f"{row['dispatched']:,}")
    return table


def _classes(service: Document) -> Table:
    table = _table("\nWhat became of them", "class", "mirrored", "executed", "all")
    mirrored, executed = service["mirrored"], service["executed"]
    for name in dict.fromkeys([*mirrored["classes"], *executed["classes"]]):
        counts = [part["classes"].get(name, 0) for part in (mirrored, executed)]
        if any(counts):
            table.add_row(name, *(f"{count:,}" if count else "" for count in counts), f"{sum(counts):,}")
    counts = [part["dispatched"] for part in (mirrored, executed)]
    table.add_row("sum", *(f"{count:,}" for count in counts), f"{sum(counts):,}", style="bold")
    table.add_row("dispatched", "", "", f"{service['dispatched']:,}", style="bold")
    return table


def _outcomes(service: Document) -> Table:
    table = _table("\nOutcomes of runs", "task", "outcome", "celery", "kafka")
    for row in service["tasks"]:
        names = sorted({*row["celery"]["outcomes"], *row["kafka"]["outcomes"]})
        for number, name in enumerate(names):
            counts = [row[side]["outcomes"].get(name, 0) for side in ("celery", "kafka")]
            table.add_row("" if number else escape(row["task"]), name, *(f"{count:,}" for count in counts))
    return table


def _durations(service: Document) -> Table:
    table = _table("\nSeconds of execution, and from dispatch to start", "task", "", "n", "p50", "p95", "p99", "max")
    both = [{"task": "all tasks", **service["sides"]}] if len(service["tasks"]) > 1 else []
    for row in [*both, *service["tasks"]]:
        name = escape(row["task"])
        for what, word in (("execution", "ran"), ("wait", "waited")):
            for side in ("celery", "kafka"):
                found = row[side][what]
                if found is not None:
                    numbers = [f"{found[quantile]:.3f}" for quantile in ("p50", "p95", "p99", "max")]
                    table.add_row(name, f"{side} {word}", f"{found['n']:,}", *numbers)
                    name = ""
    return table


def _notes(service: Document, document: Document) -> list[str]:
    evidence, mirrored, executed = service["evidence"], service["mirrored"], service["executed"]
    notes = []
    if strangers := evidence["undispatched"]["identities"]:
        began = "the window" if document["since"] is not None else "observing"
        notes.append(
            f"of {strangers:,} messages only a run or a copy was observed and not the dispatch (sent before {began} "
            "began, or the observation was lost); they stand apart from the sums above"
        )
    if unobserved := evidence["unobserved_dispatches"]:
        notes.append(f"by the producers' numbering about {unobserved:,} dispatches were not observed")
    if mirrored["classes"]["MISSING_CANDIDATE"]:
        holes = evidence["unobserved_copies"]
        meaning = "the worker or its observations lost them" if holes else "what is missing never arrived, or is last"
        notes.append(f"{holes:,} offsets of the shadow topic are missing between the copies seen: {meaning}")
    if total := mirrored["dispatched"]:
        notes.append(
            f"of {total:,} mirrored dispatches {evidence['arguments_compared']:,} could be compared with the arguments "
            f"of Celery's run, and of {evidence['control']['not_seen']:,} no run by Celery was observed"
        )
    if ambiguous := evidence["ambiguous_publishes"]:
        notes.append(f"{ambiguous:,} publishes were ambiguous; each may explain one repeat")
    notes.extend(f"{count:,} went to Celery instead of Kafka: {why}" for why, count in evidence["fallbacks"].items())
    if executed["reasons"]:
        listing = ", ".join(f"{count:,} {reason}" for reason, count in executed["reasons"].items())
        notes.append(f"repeats and endings: {listing}")
    return notes


def _show_findings(service: Document, console: Console) -> None:
    findings = service["findings"]
    if not findings:
        return
    console.print(f"\n[bold]Findings[/bold] ({len(findings)} of {service['findings_total']:,})", highlight=False)
    for found in findings:
        colour = "red" if found["breach"] else "yellow"
        attempt = f" retry {found['retries']}" if found["retries"] else ""
        console.print(f"[{colour}]{found['class']}[/] {escape(found['task'])}{attempt}", highlight=False)
        console.print(f"  {escape(found['id'])}", highlight=False, soft_wrap=True)
        why = f" ({', '.join(found['reasons'])})" if found["reasons"] else ""
        console.print(f"  {escape(found['detail'])}{why}", highlight=False)
