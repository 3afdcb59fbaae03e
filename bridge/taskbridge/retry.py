"""What becomes of a record after its executor died; retries of a task that raised are Celery's to decide."""

from __future__ import annotations

from typing import Literal

LossDecision = Literal["requeue", "dead"]


def after_loss(wants_requeue: bool, deliveries: int, most: int) -> LossDecision:
    """
    Return whether a record that took its executor down runs again.

    `wants_requeue` is the task's own wish (`acks_late` with `reject_on_worker_lost`), `deliveries` how often the record
    had been given back before, `most` how many executions it is allowed in all. What does not run again goes to the
    dead-letter topic, also where Celery would have acknowledged it before it began.
    """
    return "requeue" if wants_requeue and deliveries + 1 < most else "dead"
