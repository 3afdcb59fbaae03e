"""Figures: quantiles, how far rounds lie apart, and on what machine they were taken."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

PACKAGES = ("celery", "kombu", "redis", "confluent-kafka", "django")

BUSY = 0.75
"""Load per core, before a run, above which its figures say more about the machine's other work."""


def quantile(values: Sequence[float], part: float) -> float:
    """
    Return the value below which `part` of the values lie, interpolated between neighbours.

    Raises ValueError for no values and for a part outside 0 to 1.
    """
    if not values:
        raise ValueError("there is no quantile of no values")
    if not 0 <= part <= 1:
        raise ValueError(f"a quantile is between 0 and 1, not {part}")
    ordered = sorted(values)
    position = part * (len(ordered) - 1)
    below = int(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


@dataclass(frozen=True, slots=True)
class Spread:
    """One figure over all rounds."""

    min: float
    median: float
    max: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Return the spread of one value per round; raise ValueError for none."""
        if not values:
            raise ValueError("there is no spread of no rounds")
        return cls(min(values), median(values), max(values))


def _load() -> list[float]:
    return [round(one, 2) for one in os.getloadavg()]


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.processor() or platform.machine()


@dataclass(slots=True)
class Machine:
    """Where and when the figures were taken; loads are the averages over 1, 5 and 15 minutes."""

    cores: int = field(default_factory=lambda: len(os.sched_getaffinity(0)))
    processor: str = field(default_factory=_processor)
    started: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    load_before: list[float] = field(default_factory=_load)
    load_after: list[float] = field(default_factory=list)
    versions: dict[str, str] = field(
        default_factory=lambda: {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}
    )

    @property
    def is_busy(self) -> bool:
        """Whether the machine had other work before the run began."""
        return self.load_before[0] > BUSY * self.cores

    def finish(self) -> None:
        """Note the load at the end."""
        self.load_after = _load()


@dataclass(slots=True)
class Findings:
    """
    All that one benchmark found: for each figure, one value per round.

    `headline` are the ratios that stand, by their medians, at the top of the JSON.
    """

    benchmark: str
    headline: tuple[str, ...]
    parameters: dict[str, int | float]
    machine: Machine = field(default_factory=Machine)
    rounds: dict[str, list[float]] = field(default_factory=dict)

    def add(self, **figures: float) -> None:
        """Add one round's values."""
        for name, value in figures.items():
            self.rounds.setdefault(name, []).append(value)

    def add_ratio(self, name: str, ours: float, theirs: float) -> None:
        """Add a round's ratio of two figures of that same round."""
        self.add(**{name: ours / theirs})

    def spreads(self) -> dict[str, Spread]:
        """Return each figure's spread, in the order in which they were first added."""
        return {name: Spread.of(values) for name, values in self.rounds.items()}

    def document(self, rounded: Callable[[float], float] = lambda value: float(f"{value:.4g}")) -> dict[str, Any]:
        """Return the JSON object: the headline's medians, then spreads, rounds, parameters and machine."""
        spreads = self.spreads()
        return {
            "benchmark": self.benchmark,
            **{name: rounded(spreads[name].median) for name in self.headline},
            "spreads": {
                name: {part: rounded(value) for part, value in asdict(spread).items()}
                for name, spread in spreads.items()
            },
            "rounds": {name: [rounded(value) for value in values] for name, values in self.rounds.items()},
            "parameters": self.parameters,
            "machine": asdict(self.machine),
        }
