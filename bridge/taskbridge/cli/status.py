"""`taskbridge status`: where every service stands."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

import click
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from taskbridge.adapters.celery.queues import depth
from taskbridge.adapters.kafka.admin import KafkaAdmin, Lag
from taskbridge.cli.context import pass_bridge
from taskbridge.contrib.django.store import FlagState
from taskbridge.cutover import PERCENTAGES, Flag, Stage
from taskbridge.exceptions import TaskbridgeError

if TYPE_CHECKING:
    from taskbridge.contrib.django.wiring import Bridge

REFRESH = 2.0
"""Seconds between looks of --watch."""

PATIENCE = 5.0
"""Seconds to wait for Kafka: a status that comes late is of no use."""

INCOMPLETE = 3
"""Exit status when something could not be found out."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class GroupLag:
    """What a group has still to do; `complete` is false while a partition is not known."""

    total: int
    complete: bool
    why: str = ""


@dataclass(frozen=True, slots=True)
class TaskStatus:
    """A task that has a stage of its own."""

    task: str
    stage: str
    percent: float
    epoch: int
    since: str
    hold: bool


@dataclass(slots=True)
class ServiceStatus:
    """One service; None stands for what could not be found out, or does not exist yet."""

    service: str
    stage: str | None = None
    percent: float | None = None
    epoch: int | None = None
    since: str | None = None
    hold: bool | None = None
    fenced: bool | None = None
    tasks: list[TaskStatus] | None = None
    lag_live: GroupLag | None = None
    lag_shadow: GroupLag | None = None
    delayed: int | None = None
    outbox: int | None = None
    dead_letters: int | None = None
    celery_queued: int | None = None


@dataclass(slots=True)
class Status:
    """All services asked for, and what stood in the way of knowing more."""

    services: list[ServiceStatus] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


@click.command()
@click.argument("services", nargs=-1, metavar="[SERVICE]...")
@click.option("--watch", is_flag=True, help="Look again every two seconds until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
@pass_bridge
def status(bridge: Bridge, services: tuple[str, ...], watch: bool, as_json: bool) -> None:
    """
    Show each service's stage, lag, and messages that wait.

    Lag is what the service's consumer group has not finished; with a "?" not every partition is known, and "-" stands
    where there is nothing to count or nobody to ask. Celery counts the messages in the queues that TASKBRIDGE names for
    the service. Beneath stand the tasks that have a stage of their own.

    \b
    Exit status: 0 everything is known; 2 wrong use or set-up; 3 something could not be found out, and is named.

    \b
    Examples:
      taskbridge status
      taskbridge status orders --watch
      taskbridge status --json
    """
    if watch and as_json:
        raise click.UsageError("--watch shows a table; leave out --json")
    names = [bridge.settings.service(name).name for name in services] or sorted(bridge.settings.services)
    if watch:
        _watch(bridge, names)
        return
    found = gather(bridge, names)
    if as_json:
        click.echo(json.dumps(asdict(found)))
    else:
        Console().print(_view(found))
    if found.problems:
        click.get_current_context().exit(INCOMPLETE)


def gather(bridge: Bridge, names: Sequence[str]) -> Status:
    """Ask the database, Kafka and Celery's broker; one that does not answer is asked once and named."""
    result = Status([ServiceStatus(name) for name in names])

    def ask(questions: Callable[[], T]) -> T | None:
        try:
            return questions()
        except TaskbridgeError as error:
            result.problems.append(str(error))
            return None

    ask(lambda: _ask_store(bridge, result))
    ask(lambda: _ask_kafka(bridge, result))
    ask(lambda: _ask_celery(bridge, result))
    return result


def _ask_store(bridge: Bridge, result: Status) -> None:
    states = bridge.store.flag_states()
    waiting = bridge.store.pending_counts()
    for row in result.services:
        state = states.get(row.service)
        flag = state.flag if state else Flag(row.service, Stage.OFF)
        row.stage, row.percent, row.epoch = str(flag.stage), flag.basis_points / 100, flag.epoch
        row.since = state.changed_at.isoformat() if state else None
        row.hold, row.fenced = flag.hold, flag.fence is not None
        row.tasks = [_task(one) for _, one in sorted(bridge.store.task_flag_states(row.service).items())]
        row.delayed = waiting["delayed"].get(row.service, 0)
        row.outbox = waiting["outbox"].get(row.service, 0)


def _task(state: FlagState) -> TaskStatus:
    flag = state.flag
    since = state.changed_at.isoformat()
    return TaskStatus(flag.task, str(flag.stage), flag.basis_points / 100, flag.epoch, since, flag.hold)


def _ask_kafka(bridge: Bridge, result: Status) -> None:
    admin = KafkaAdmin(bridge.settings, timeout=PATIENCE)
    for row in result.services:
        row.lag_live = _lag(admin.lag(row.service, "live"), result)
        row.lag_shadow = _lag(admin.lag(row.service, "shadow"), result)
        row.dead_letters = admin.depth(bridge.settings.dead_letter_topic(row.service))


def _lag(lag: Lag, result: Status) -> GroupLag | None:
    if not lag.partitions:
        return None
    if lag.why_incomplete:
        result.problems.append(f"the lag of group {lag.group} is not complete: {lag.why_incomplete}")
    return GroupLag(lag.total, not lag.why_incomplete, lag.why_incomplete)


def _ask_celery(bridge: Bridge, result: Status) -> None:
    for row in result.services:
        queues = bridge.settings.services[row.service].queues
        if queues:
            row.celery_queued = depth(bridge.app, queues)


def _watch(bridge: Bridge, names: Sequence[str]) -> None:
    with Live(_view(gather(bridge, names)), auto_refresh=False) as live:
        try:
            while True:
                time.sleep(REFRESH)
                live.update(_view(gather(bridge, names)), refresh=True)
        except KeyboardInterrupt:
            return


def _view(found: Status) -> Group:
    table = Table(box=None, pad_edge=False)
    for name in ("service", "stage"):
        table.add_column(name, no_wrap=True)
    for name in ("epoch", "since", "lag", "shadow", "delayed", "outbox", "dead", "celery"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in found.services:
        table.add_row(
            row.service,
            "?" if row.stage is None else _stage(row.stage, row.percent),
            _number(row.epoch),
            _age(row.since),
            _lag_text(row.lag_live),
            _lag_text(row.lag_shadow),
            _number(row.delayed),
            _number(row.outbox),
            _number(row.dead_letters),
            _number(row.celery_queued),
        )
    return Group(table, *_notes(found), *(Text(f"! {problem}", style="yellow") for problem in found.problems))


def _notes(found: Status) -> Iterator[Text]:
    for row in found.services:
        if row.hold:
            yield Text(f"{row.service} is held")
        if row.fenced:
            yield Text(f"{row.service}: keys change side, and their messages wait until the old side is empty")
        for task in row.tasks or ():
            held = ", held" if task.hold else ""
            yield Text(f"{row.service}: {task.task} is {_stage(task.stage, task.percent)}{held}")


def _stage(stage: str, percent: float | None) -> str:
    return f"{stage} {percent:g}%" if stage in PERCENTAGES else stage


def _number(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _lag_text(lag: GroupLag | None) -> str:
    if lag is None:
        return "-"
    return f"{lag.total:,}" if lag.complete else f"{lag.total:,}?"


def _age(since: str | None) -> str:
    if since is None:
        return "-"
    seconds = max(0.0, (datetime.now(UTC) - datetime.fromisoformat(since)).total_seconds())
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{int(seconds // size)}{unit}"
    return f"{int(seconds)}s"
