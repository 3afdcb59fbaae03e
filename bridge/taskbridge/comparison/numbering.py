"""Which numbers of a running sequence were seen, and how many between them were not."""

from __future__ import annotations


class Numbering:
    """
    Counts the holes of a running sequence.

    Numbers may come in any order and more than once. `retain` of them are kept one by one; then they are melted
    into ranges, so that a million numbers of an almost complete sequence cost next to nothing.
    """

    __slots__ = ("_fresh", "_ranges", "_retain")

    def __init__(self, retain: int = 10_000) -> None:
        self._retain = retain
        self._fresh: list[int] = []
        self._ranges: list[tuple[int, int]] = []

    def add(self, number: int) -> None:
        """Note a number; noting it again changes nothing."""
        self._fresh.append(number)
        if len(self._fresh) >= self._retain:
            self._melt()

    def missing(self) -> int:
        """Return how many numbers between the lowest and the highest were never noted."""
        self._melt()
        return sum(after[0] - before[1] - 1 for before, after in zip(self._ranges, self._ranges[1:], strict=False))

    def _melt(self) -> None:
        spans = sorted([*self._ranges, *((number, number) for number in set(self._fresh))])
        self._fresh.clear()
        melted: list[tuple[int, int]] = []
        for start, end in spans:
            if melted and start <= melted[-1][1] + 1:
                melted[-1] = (melted[-1][0], max(end, melted[-1][1]))
            else:
                melted.append((start, end))
        self._ranges = melted
