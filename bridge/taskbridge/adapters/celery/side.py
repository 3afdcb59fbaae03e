"""On which side this process executes tasks."""

from __future__ import annotations

from taskbridge.observation import Side

_side: list[Side] = ["celery"]


def current_side() -> Side:
    """Return `kafka` in an executor of our own worker, and `celery` in every other process."""
    return _side[0]


def mark_kafka() -> None:
    """Declare this process to be an executor of our own worker; there is no way back."""
    _side[0] = "kafka"
