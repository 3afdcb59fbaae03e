"""Numbers as people read them in a sentence."""

from __future__ import annotations


def seconds(value: float) -> str:
    """Return a duration, such as `84 s`, `12 min`, `3 h`."""
    if value < 120:
        return f"{value:.0f} s" if value >= 10 or value == int(value) else f"{value:.1f} s"
    if value < 7200:
        return f"{value / 60:.0f} min"
    return f"{value / 3600:.0f} h"


def rate(value: float) -> str:
    """Return records a second, such as `41/s`."""
    if value >= 10 or value == int(value):
        return f"{value:.0f}/s"
    return f"{value:.1f}/s" if value >= 1 else f"{value:.2g}/s"


def records(value: float) -> str:
    """Return a count of records, such as `1 record`, `12,400 records`."""
    return "1 record" if round(value) == 1 else f"{value:,.0f} records"


def replicas(count: int) -> str:
    """Return a count of replicas."""
    return "1 replica" if count == 1 else f"{count} replicas"


def stay(count: int) -> str:
    """Return that so many replicas are left as they are."""
    return f"{replicas(count)} {'stays' if count == 1 else 'stay'}"


def partitions(names: list[tuple[str, int]], most: int = 3) -> str:
    """Return the names of partitions, the first few of them."""
    shown = ", ".join(f"{topic}-{number}" for topic, number in names[:most])
    rest = len(names) - most
    return f"{shown} and {rest} more" if rest > 0 else shown
