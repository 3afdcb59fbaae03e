"""Warnings that a failing server causes once per message, said once per minute."""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import monotonic


class ThrottledLog:
    """Logs each cause at most once per `period` seconds, with the number of those held back since."""

    def __init__(self, logger: logging.Logger, period: float = 60.0, clock: Callable[[], float] = monotonic) -> None:
        """`clock` returns monotonic seconds."""
        self._logger = logger
        self._period = period
        self._clock = clock
        self._next: dict[str, float] = {}
        self._held_back: dict[str, int] = {}

    def warning(self, cause: str, text: str, *arguments: object) -> None:
        """Log a warning unless `cause` was logged within the period."""
        self.log(logging.WARNING, cause, text, *arguments)

    def log(self, level: int, cause: str, text: str, *arguments: object) -> None:
        """Log `text` unless `cause` was logged within the period."""
        now = self._clock()
        if now < self._next.get(cause, float("-inf")):
            self._held_back[cause] = self._held_back.get(cause, 0) + 1
            return
        self._next[cause] = now + self._period
        held_back = self._held_back.pop(cause, 0)
        if held_back:
            text, arguments = text + " (and %d more times since this was last said)", (*arguments, held_back)
        self._logger.log(level, text, *arguments)
