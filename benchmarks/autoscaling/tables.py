"""The comparison for people: as tables on the terminal, and as Markdown for the documentation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table

from benchmarks.autoscaling.calibration import Calibration
from benchmarks.autoscaling.report import Comparison, Row, Score, front
from benchmarks.autoscaling.run import OURS

SETTING_COLUMNS = ("setting", "violated s", "replica-s", "rebalances")
ROW_COLUMNS = (
    "trace",
    "consumers",
    "violated s",
    "replica-s",
    "rebalances",
    "KEDA violated s",
    "KEDA replica-s",
    "KEDA rebalances",
    "replica-s, ratio",
    "rebalances, ratio",
    "to KEDA tuned for it",
    "to a fixed number",
    "against us",
)

CALIBRATION_COLUMNS = (
    "protocol",
    "records/s",
    "start to first record, s",
    "moved partitions stopped, s",
    "others stopped, s",
    "highest lag",
    "predicted",
    "mean error",
)

WIDTH = 160
"""Columns of text where nobody says how many there are."""

NONE = "-"


def _over(ours: float, theirs: float | None) -> str:
    return f"{ours / theirs:.2f}" if theirs else NONE


def _verdict(row: Row) -> str:
    said = []
    if row.lost:
        said.append("dearer")
    if row.ours.violated > row.peer.violated:
        said.append("violates longer")
    if row.lost_to_tuned:
        said.append("dearer than tuned")
    return ", ".join(said)


def _scores(score: Score) -> tuple[str, str, str]:
    return f"{score.violated:,}", f"{score.replica_seconds:,}", f"{score.rebalances:,}"


def rows(comparison: Comparison) -> Iterator[tuple[str, ...]]:
    """Give the table of traces, line by line; all ratios are ours over theirs."""
    for row in comparison.rows:
        ours, peer, tuned = row.ours, row.peer, row.tuned_score
        yield (
            row.trace,
            row.consumers,
            *_scores(ours),
            *_scores(peer),
            _over(ours.replica_seconds, peer.replica_seconds),
            _over(ours.rebalances, peer.rebalances),
            f"{_over(ours.replica_seconds, tuned.replica_seconds)}{'' if tuned.violated <= ours.violated else '*'}",
            _over(ours.replica_seconds, row.fixed),
            _verdict(row),
        )


def settings(comparison: Comparison) -> Iterator[tuple[str, ...]]:
    """Give the table of settings: ours, the peer, and KEDA's Pareto front."""
    keda = {setting: score for setting, score in comparison.totals.items() if setting != OURS}
    for setting in (OURS, *front(keda)):
        score = comparison.totals[setting]
        name = f"{setting.name} (the peer)" if setting == comparison.peer else setting.name
        yield name, *_scores(score)


def sentence(comparison: Comparison) -> str:
    """Return the result in words."""
    peer = comparison.totals[comparison.peer]
    clause = (
        "the cheapest setting of KEDA with no more violated seconds"
        if comparison.reached
        else "the setting of KEDA with the fewest violated seconds: none has as few as ours"
    )
    return (
        f"{_over(comparison.ours.replica_seconds, peer.replica_seconds)} of the replica-seconds and "
        f"{_over(comparison.ours.rebalances, peer.rebalances)} of the rebalances of {comparison.peer.name}, {clause}"
    )


def show(comparison: Comparison) -> None:
    """Print it."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    console.print(_table(f"{comparison.set_name}, totals", SETTING_COLUMNS, settings(comparison), left=1))
    title = f"{comparison.set_name}, traces; the ratios are ours over theirs; *: that one violates longer"
    console.print(_table(title, ROW_COLUMNS, rows(comparison), left=2))
    console.print(sentence(comparison))


def show_calibrations(found: Sequence[Calibration]) -> None:
    """Print what real groups did, and how far the plant is from it."""
    console = Console()
    table = Table(title="calibration", title_justify="left")
    for number, column in enumerate(CALIBRATION_COLUMNS):
        table.add_column(column, justify="right" if number else "left")
    for one in found:
        lags = (f"{max(one.measured):,.0f}", f"{max(one.predicted):,.0f}", f"{one.error:.0%}")
        table.add_row(
            one.protocol, f"{one.rate:.1f}", f"{one.start:.1f}", f"{one.moved:.1f}", f"{one.stayed:.1f}", *lags
        )
    console.print(table)


def _table(title: str, columns: tuple[str, ...], lines: Iterator[tuple[str, ...]], *, left: int) -> Table:
    table = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number < left else "right", no_wrap=number < left)
    for line in lines:
        table.add_row(*line)
    return table


def markdown(comparison: Comparison) -> str:
    """Return the tables as Markdown."""
    parts = []
    for columns, lines in ((SETTING_COLUMNS, settings(comparison)), (ROW_COLUMNS, rows(comparison))):
        ruler = " | ".join("---" if number < 1 else "---:" for number in range(len(columns)))
        parts.append(
            "\n".join((f"| {' | '.join(columns)} |", f"| {ruler} |", *(f"| {' | '.join(one)} |" for one in lines)))
        )
    return "\n\n".join((*parts, sentence(comparison) + "."))
