"""What an executor tells of one record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from taskbridge.observation import Outcome


@dataclass(slots=True)
class Result:
    """
    How a record ended.

    `executed` is False when the task's body did not run. `action` is empty when nothing is left to do, else `dead` or
    `requeue`, with `reason` (one word), `detail` (one sentence or an exception's type) and `traceback`. `leave` is the
    exit status of a task that asked the process to end. `once` is as in a RunRow.
    """

    task_id: str
    retries: int
    nesting: int
    task: str
    outcome: Outcome
    epoch: int
    partition: int
    offset: int
    deliveries: int
    executed: bool = True
    action: str = ""
    reason: str = ""
    detail: str = ""
    traceback: str = ""
    leave: int | None = None
    once: int = 0

    def row(self, started: float, finished: float) -> tuple[Any, ...]:
        """Return the fields of a RunRow, in order."""
        return (
            self.task_id,
            self.retries,
            self.nesting,
            self.task,
            "kafka",
            self.outcome,
            started,
            finished,
            self.epoch,
            self.partition,
            self.offset,
            self.deliveries,
            "",
            self.reason or self.detail,
            self.once,
        )
