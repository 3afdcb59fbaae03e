"""`taskbridge delayed`: what waits until it is due, and cancelling it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table

from taskbridge.cli.context import pass_bridge
from taskbridge.cli.outcome import user
from taskbridge.contrib.django.waiting import Criteria, Fate, Waiting, cancel, count, find
from taskbridge.exceptions import ConfigurationError

if TYPE_CHECKING:
    from taskbridge.contrib.django.wiring import Bridge

WIDE = 400
"""Columns of a table that is not shown on a terminal."""

NOT_ALL = 1
"""Exit status when something that was asked for could not be cancelled."""

_DURATION = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_FATES: dict[str, str] = {
    "cancelled": "cancelled",
    "sent": "not cancelled: it was sent, or cancelled by somebody else, meanwhile",
    "busy": "not cancelled: a relay is sending it and does not come to an end; try again",
    "unknown": "not cancelled: nothing of that id waits; it was sent or cancelled before, or never put aside",
}


def _moment(_: click.Context, __: click.Parameter, text: str | None) -> datetime | None:
    """Return the moment, aware, of a duration from now (`15m`, `2h`, `1d`) or an ISO time."""
    if text is None:
        return None
    if found := _DURATION.fullmatch(text):
        return datetime.now(UTC) + timedelta(seconds=float(found[1]) * _UNITS[found[2]])
    try:
        return datetime.fromisoformat(text).astimezone()
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is neither a duration from now, such as 30s, 15m, 2h or 1d, nor an ISO time"
        ) from None


@click.group()
def delayed() -> None:
    """
    List and cancel messages that are not due yet.

    \b
    Examples:
      taskbridge delayed ls --service orders
      taskbridge delayed cancel 1042 1043
    """


@delayed.command("ls")
@click.option("--service", help="Only messages of this service.")
@click.option("--task", help="Only tasks whose name matches a pattern (`*`, `?`).")
@click.option("--key", help="Only messages with this business key.")
@click.option(
    "--due-before",
    callback=_moment,
    metavar="TIME",
    help="Only what is due before: 15m or 2h from now, or an ISO time.",
)
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="Messages listed at most.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
@pass_bridge
def ls(
    bridge: Bridge,
    service: str | None,
    task: str | None,
    key: str | None,
    due_before: datetime | None,
    limit: int,
    as_json: bool,
) -> None:
    """
    List messages that wait until they are due, the next one first.

    Attempts are publishes of which nobody knows how they ended: such a message may have arrived already.

    \b
    Exit status: 0 listed; 2 wrong use or set-up, or the database does not answer.

    \b
    Examples:
      taskbridge delayed ls
      taskbridge delayed ls --task 'orders.*' --due-before 1h --json
    """
    if service is not None:
        bridge.settings.service(service)
    meant = Criteria(service, task, key, due_before)
    found = [row for store in bridge.stores.values() for row in find(store.sessions, meant, limit)]
    found = sorted(found, key=lambda row: row.due)[:limit]
    total = sum(count(store.sessions, meant) for store in bridge.stores.values())
    if as_json:
        click.echo(json.dumps({"total": total, "messages": [_document(bridge, row) for row in found]}))
        return
    if not found:
        click.echo("Nothing waits.")
        return
    _console().print(_table(bridge, found))
    if total > len(found):
        click.echo(f"{total - len(found):,} more; --limit shows more of them")


@delayed.command("cancel")
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--task-id", "task_ids", multiple=True, help="Celery's id of a task; may be given several times.")
@click.option("--service", help="Only messages of this service.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Say what would be cancelled and change nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object; does not ask.")
@pass_bridge
def cancel_command(
    bridge: Bridge,
    ids: tuple[str, ...],
    task_ids: tuple[str, ...],
    service: str | None,
    yes: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """
    Cancel messages that wait, by the ids that `ls` shows or by task id.

    Each is either cancelled or sent, never both, also while a relay is at work. The result of a cancelled task becomes
    REVOKED, and who cancelled it stands in the log.

    \b
    Exit status: 0 all cancelled; 1 something was not, and is named; 2 wrong use or set-up, or the database does not
    answer.

    \b
    Examples:
      taskbridge delayed cancel 1042 1043
      taskbridge delayed cancel --task-id 2c0d8a1e-64c9-4c3b-9d5f-0f3a1f0a7a11 --yes
    """
    if bool(ids) == bool(task_ids):
        raise click.UsageError("name messages either by ID, as `taskbridge delayed ls` shows them, or by --task-id")
    if service is not None:
        bridge.settings.service(service)
    rows, unknown = _meant(bridge, ids, task_ids, service)
    fates: Mapping[Waiting, Fate] = {}
    if not dry_run:
        if rows and not (yes or as_json):
            _console().print(_table(bridge, rows))
            click.confirm(f"Cancel {len(rows)} {'message' if len(rows) == 1 else 'messages'}?", abort=True)
        fates = cancel(bridge, rows, user())
        bridge.observer.flush()
    if as_json:
        messages = [_document(bridge, row) | {"fate": fates.get(row, "waits")} for row in rows]
        click.echo(json.dumps({"dry_run": dry_run, "messages": messages, "unknown": unknown}))
    else:
        _say(bridge, rows, fates, unknown)
    if unknown or any(fate != "cancelled" for fate in fates.values()):
        click.get_current_context().exit(NOT_ALL)


def _meant(
    bridge: Bridge, ids: Sequence[str], task_ids: Sequence[str], service: str | None
) -> tuple[list[Waiting], list[str]]:
    """Return the messages that are named, and the names of which nothing waits."""
    if task_ids:
        meant = Criteria(service, task_ids=task_ids)
        named = [row for store in bridge.stores.values() for row in find(store.sessions, meant)]
        return named, sorted(set(task_ids) - {row.task_id for row in named})
    numbers: dict[str, set[int]] = {}
    for name in ids:
        alias, _, number = name.rpartition(":")
        alias = alias or bridge.settings.database
        if alias not in bridge.stores or not number.isdecimal():
            raise ConfigurationError(f"{name!r} is no id of a message; `taskbridge delayed ls` shows them")
        numbers.setdefault(alias, set()).add(int(number))
    rows: list[Waiting] = []
    unknown: list[str] = []
    for alias, some in numbers.items():
        found = find(bridge.stores[alias].sessions, replace(Criteria(service), ids=sorted(some)))
        rows.extend(found)
        missing = some - {row.id for row in found}
        unknown.extend(_name(bridge, alias, number) for number in sorted(missing))
    return rows, unknown


def _name(bridge: Bridge, alias: str, number: int) -> str:
    """Return what people call a message by: its id, after the alias of a database that is not the bridge's own."""
    return str(number) if alias == bridge.settings.database else f"{alias}:{number}"


def _say(bridge: Bridge, rows: Sequence[Waiting], fates: Mapping[Waiting, Fate], unknown: Sequence[str]) -> None:
    for row in rows:
        fate = _FATES[fates[row]] if row in fates else "would be cancelled"
        doubt = f"; it may have arrived before: {row.attempts} publishes ended nobody knows how" if row.attempts else ""
        click.echo(f"{_name(bridge, row.alias, row.id)}  {row.task}[{row.task_id}]: {fate}{doubt}")
    for name in unknown:
        click.echo(f"{name}: {_FATES['unknown']}")
    if rows and not fates:
        click.echo("Nothing was changed (--dry-run).")


def _document(bridge: Bridge, row: Waiting) -> dict[str, Any]:
    return {
        "id": _name(bridge, row.alias, row.id),
        "due": row.due.isoformat(),
        "service": row.service,
        "task": row.task,
        "task_id": row.task_id,
        "key": row.key,
        "created_at": row.created_at.isoformat(),
        "attempts": row.attempts,
    }


def _console() -> Console:
    console = Console()
    # What is piped is read by programs, which need whole ids.
    return console if console.is_terminal else Console(width=WIDE)


def _table(bridge: Bridge, rows: Sequence[Waiting]) -> Table:
    now = datetime.now(UTC)
    table = Table(box=None, pad_edge=False)
    for name in ("id", "due", "in", "service", "task", "task id", "key", "age", "attempts"):
        right = name in {"id", "in", "age", "attempts"}
        table.add_column(name, overflow="fold", no_wrap=right, justify="right" if right else "left")
    for row in rows:
        late = row.due < now
        table.add_row(
            _name(bridge, row.alias, row.id),
            row.due.astimezone().isoformat(sep=" ", timespec="seconds"),
            "now" if late else _span(row.due - now),
            row.service,
            row.task,
            row.task_id,
            "" if row.key == row.task_id else row.key,
            _span(now - row.created_at),
            str(row.attempts) if row.attempts else "",
            style="yellow" if late or row.attempts else "",
        )
    return table


def _span(time: timedelta) -> str:
    seconds = max(0.0, time.total_seconds())
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{int(seconds // size)}{unit}"
    return f"{int(seconds)}s"
