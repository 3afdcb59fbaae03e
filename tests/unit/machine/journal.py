"""What became of every dispatch, and the rules that hold at all times."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from tests.unit.machine.database import Database
from tests.unit.machine.servers import Clock

Side = Literal["celery", "kafka"]

LEASE = 60.0


@dataclass(slots=True)
class Call:
    """
    One dispatch.

    `state` is `acknowledged` once its caller may rely on it, `undone` when the caller's transaction was rolled back,
    `failed` when the caller was told so, or died: then it may run, or not.
    `redelivered` starts that a worker's end explains. `cancelled` holds how often it may have left when it was.
    `placeless` ones have no place in the order of their key.
    """

    id: str
    task: str
    key: str
    once: bool
    number: int
    unsupported: bool = False
    placeless: bool = False
    state: Literal["open", "acknowledged", "failed", "undone"] = "open"
    cancelled: int | None = None
    redelivered: int = 0
    starts: int = 0
    ends: int = 0
    effects: int = 0
    sides: set[Side] = field(default_factory=set)


@dataclass(slots=True, eq=False)
class Run:
    """One execution under way; with `repeat` its body is skipped, because it has ended before."""

    call: Call
    token: int = 0
    repeat: bool = False


@dataclass(slots=True)
class _Execution:
    """A row of the ledger of tasks that run once."""

    token: int
    leased_until: float
    holder: Run | None
    done: bool = False


class Journal:
    """Counts executions and effects; raises AssertionError as soon as one must not be."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self.calls: dict[str, Call] = {}
        self.first: dict[str, list[int]] = {}
        self._database = database
        self._clock = clock
        self._ledger: dict[str, _Execution] = {}

    def new(self, task: str, key: str, once: bool) -> Call:
        """Open the book on another dispatch."""
        number = len(self.calls) + 1
        call = self.calls[f"id-{number}"] = Call(f"id-{number}", task, key, once, number)
        return call

    def attempts(self, call: Call) -> int:
        """Return the publishes of unknown end that are written down about a dispatch, in rows that were or are."""
        rows = [row for table in self._database.rows.values() for row in table.values()] + self._database.gone
        return sum(row.pending.attempts for row in rows if row.pending.message.task_id == call.id)

    # Executions

    def start(self, task_id: str, side: Side, explained: bool) -> Run | None:
        """Begin an execution; None when its turn has not come. `explained` says that it is a redelivery."""
        call = self.calls[task_id]
        run = Run(call)
        if call.once and not self._claim(run):
            return None
        call.redelivered += explained
        call.sides.add(side)
        if run.repeat:
            return run
        call.starts += 1
        if call.starts == 1:
            self.first.setdefault(call.key, []).append(call.number)
        self._judge(call)
        return run

    def _judge(self, call: Call) -> None:
        attempts = self.attempts(call)
        assert call.state != "undone", f"{call} was rolled back and runs"
        assert call.cancelled is None or call.starts <= call.cancelled, f"{call} was cancelled and runs"
        if not call.once:
            assert call.starts <= 1 + attempts + call.redelivered, f"{call} runs again, and nothing explains it"
        assert len(call.sides) <= 1 or attempts, f"{call} runs on both sides, and nothing explains it"

    def finish(self, run: Run) -> bool:
        """End an execution; False when another process has taken it over, so that it has to begin again."""
        call = run.call
        if call.once and not run.repeat:
            execution = self._ledger[call.id]
            if execution.done or execution.token != run.token:
                return execution.done
            execution.done, execution.holder = True, None
        if not run.repeat:
            call.effects += 1
        call.ends += 1
        assert not call.once or call.effects <= 1, f"{call} has had its effect twice"
        return True

    def abort(self, run: Run) -> None:
        """Note that the process of an execution died."""
        execution = self._ledger.get(run.call.id)
        if execution is not None and execution.holder is run:
            execution.holder = None

    def _claim(self, run: Run) -> bool:
        if not self._database.available:
            return False
        now = self._clock.now
        execution = self._ledger.get(run.call.id)
        if execution is None:
            self._ledger[run.call.id] = _Execution(1, now + LEASE, run)
            run.token = 1
            return True
        if execution.done:
            run.repeat = True
            return True
        if execution.holder is not None and now < execution.leased_until:
            return False
        execution.token, execution.leased_until, execution.holder = execution.token + 1, now + LEASE, run
        run.token = execution.token
        return True

    # The end

    def settled(self, ok: Callable[[Call], bool]) -> list[Call]:
        """Return the dispatches about which something is wrong at the end."""
        return [call for call in self.calls.values() if not ok(call)]

    def close(self, faultless: bool) -> None:
        """Check every dispatch once nothing is under way any more."""
        assert not (lost := self.settled(_is_not_lost)), f"lost: {lost}"
        assert not (twice := self.settled(_has_one_effect)), f"without its one effect: {twice}"
        if faultless:
            assert not (wrong := self.settled(_is_exact)), f"not exactly once on one side: {wrong}"

    def in_order(self) -> None:
        """Check that the messages of each key began in the order in which they were dispatched."""
        for key, numbers in self.first.items():
            calls = [self.calls[f"id-{number}"] for number in numbers]
            told = [call.number for call in calls if call.state == "acknowledged" and not call.placeless]
            assert told == sorted(told), f"the messages of {key} began in the order {told}"


def _is_not_lost(call: Call) -> bool:
    return call.state != "acknowledged" or call.cancelled is not None or call.ends >= 1


def _has_one_effect(call: Call) -> bool:
    if not call.once or call.state != "acknowledged" or call.cancelled is not None:
        return True
    return call.effects == 1


def _is_exact(call: Call) -> bool:
    if call.state != "acknowledged" or call.cancelled is not None:
        return call.starts == 0 or call.state == "failed"
    return (call.starts, call.ends, len(call.sides)) == (1, 1, 1)
