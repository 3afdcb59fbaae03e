"""How a worker stands: taken once a second by its own loop, and read by any thread."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

DURATION_BOUNDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
"""Seconds by which the durations of tasks are told apart: each count is of those above the bound before it."""


@dataclass(frozen=True, slots=True)
class PartitionState:
    """
    One assigned partition.

    `lag` counts records that are not finished, and is None while the end of the log is not known; `behind` is how many
    seconds ago the oldest fetched record that is not finished was written, 0 when there is none.
    """

    partition: int
    lag: int | None
    behind: float
    paused: bool


@dataclass(frozen=True, slots=True)
class Run:
    """How many tasks ended in one way, and the seconds that they took together."""

    count: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One moment; what is counted is counted since the start."""

    finished: int = 0
    """Records that need never be looked at again."""

    runs: Mapping[tuple[str, str], Run] = field(default_factory=dict)
    """Tasks that ended without anything left to do, by (task, outcome)."""

    durations: tuple[int, ...] = (0,) * (len(DURATION_BOUNDS) + 1)
    """How many of them took so long; see DURATION_BOUNDS."""

    executors: Mapping[str, int] = field(default_factory=dict)
    """How many are `starting`, `idle` or `busy`."""

    deaths: Mapping[str, int] = field(default_factory=dict)
    """Executors that died while they ran a record, by cause: `lost` or `timeout`."""

    buffered: int = 0
    """Records that wait for an executor."""

    buffered_bytes: int = 0

    held: int = 0
    """Records that executors have."""

    unsettled: int = 0
    """Records whose dead letter, or next delivery, Kafka has not confirmed yet."""

    dead_letters: Mapping[str, int] = field(default_factory=dict)
    """By reason."""

    given_back: int = 0
    """Records that were written to the end of their topic to run again."""

    commits: int = 0
    failed_commits: int = 0

    partitions: tuple[PartitionState, ...] = ()

    busy: float = 0.0
    """Share of the last seconds, 0 to 1, in which the worker was at work."""
