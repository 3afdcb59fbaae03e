"""Perform actions at a steady rate."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from shop.demo.actions import Action

LATE = 1.0
"""Seconds behind the schedule from which on the rate counts as not kept."""


class Door(Protocol):
    """A way into the shop."""

    def perform(self, action: Action) -> str:
        """Perform an action and return a word for how it went."""


@dataclass
class Summary:
    """What was done, and how well the rate was kept; seconds are real ones."""

    planned: int
    rate: float
    performed: int = 0
    seconds: float = 0.0
    most_behind: float = 0.0
    interrupted: bool = False
    outcomes: Counter[str] = field(default_factory=Counter)

    @property
    def kept_up(self) -> bool:
        """Tell whether no action was later than LATE."""
        return self.most_behind <= LATE

    @property
    def achieved(self) -> float:
        """Return the actions per second that were really performed."""
        return self.performed / self.seconds if self.seconds else 0.0


def run(
    actions: Iterator[Action],
    door: Door,
    rate: float,
    seconds: float,
    on_progress: Callable[[int], None] = lambda _performed: None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Summary:
    """
    Perform `rate` actions per second for so many seconds, and return the summary.

    An action that is late is performed at once and none is left out. KeyboardInterrupt ends it early.
    """
    summary = Summary(planned=round(rate * seconds), rate=rate)
    start = clock()
    try:
        for position in range(summary.planned):
            ahead = start + position / rate - clock()
            if ahead > 0:
                sleep(ahead)
            else:
                summary.most_behind = max(summary.most_behind, -ahead)
            action = next(actions)
            outcome = door.perform(action)
            summary.performed += 1
            summary.outcomes[f"{type(action).__name__} {outcome}"] += 1
            on_progress(summary.performed)
    except KeyboardInterrupt:
        summary.interrupted = True
    summary.seconds = clock() - start
    return summary
