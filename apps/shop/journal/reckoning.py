"""Set what was dispatched against what ran; no database here."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

NOWHERE = "-"
THROWN_AWAY = frozenset({"EXPIRED", "REVOKED"})


@dataclass(frozen=True)
class Key:
    """What tells one dispatch of a task from every other."""

    task_id: str
    retries: int
    replaced_task_nesting: int


@dataclass(frozen=True)
class Dispatched:
    """A dispatch: how often it was published, and the moment before which it must not run."""

    key: Key
    task: str
    times: int
    not_before: datetime | None


@dataclass(frozen=True)
class Ran:
    """A run: `state` is empty while it has not finished."""

    key: Key
    task: str
    side: str
    finished: bool
    state: str


@dataclass
class Line:
    """
    The counts of one task on one side; for dispatches that never ran the side is `-`.

    Every dispatch is in exactly one count after `dispatched`, so that they add up to it.
    """

    task: str
    side: str
    dispatched: int = 0
    ran_once: int = 0
    ran_more_than_once: int = 0
    thrown_away: int = 0
    running: int = 0
    waiting: int = 0
    never_ran: int = 0


@dataclass
class Account:
    """All lines, and the ids of what is not as it should be."""

    lines: list[Line]
    never_ran: list[str] = field(default_factory=list)
    ran_more_than_once: list[str] = field(default_factory=list)
    running: list[str] = field(default_factory=list)
    published_more_than_once: list[str] = field(default_factory=list)
    not_dispatched: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Tell whether nothing was lost and nothing ran twice."""
        return not self.never_ran and not self.ran_more_than_once

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON, with sums over all lines."""
        counts = [name for name in Line.__dataclass_fields__ if name not in {"task", "side"}]
        return {
            "ok": self.ok,
            "total": {name: sum(getattr(line, name) for line in self.lines) for name in counts},
            **asdict(self),
        }


def reckon(dispatched: Iterable[Dispatched], ran: Iterable[Ran], now: datetime) -> Account:
    """Return the account of all dispatches and runs, as it stands at `now`."""
    runs: dict[Key, list[Ran]] = defaultdict(list)
    for run in ran:
        runs[run.key].append(run)
    lines: dict[tuple[str, str], Line] = {}
    account = Account([])
    for dispatch in dispatched:
        found = runs.pop(dispatch.key, [])
        side = "+".join(sorted({run.side for run in found})) or NOWHERE
        line = lines.setdefault((dispatch.task, side), Line(dispatch.task, side))
        line.dispatched += 1
        _count(dispatch, found, line, account, now)
    for key, found in runs.items():
        side = "+".join(sorted({run.side for run in found}))
        line = lines.setdefault((found[0].task, side), Line(found[0].task, side))
        account.not_dispatched.append(_label(found[0].task, key))
        if len(found) > 1:
            line.ran_more_than_once += 1
            account.ran_more_than_once.append(_label(found[0].task, key))
    account.lines = [lines[name] for name in sorted(lines)]
    return account


def _count(dispatch: Dispatched, found: list[Ran], line: Line, account: Account, now: datetime) -> None:
    label = _label(dispatch.task, dispatch.key)
    started = [run for run in found if run.state not in THROWN_AWAY]
    if dispatch.times > 1:
        account.published_more_than_once.append(label)
    if any(not run.finished for run in started):
        account.running.append(label)
    if len(started) > 1:
        line.ran_more_than_once += 1
        account.ran_more_than_once.append(label)
    elif started:
        line.ran_once += started[0].finished
        line.running += not started[0].finished
    elif found:
        line.thrown_away += 1
    elif dispatch.not_before is not None and dispatch.not_before > now:
        line.waiting += 1
    else:
        line.never_ran += 1
        account.never_ran.append(label)


def _label(task: str, key: Key) -> str:
    nesting = f" nesting {key.replaced_task_nesting}" if key.replaced_task_nesting else ""
    return f"{task} {key.task_id} retry {key.retries}{nesting}"
