"""The samples of one consumer that the policy looks at: as many as it needs, as few as will do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import overload

from lagscaler.policy.model import Sample

FULL = 60.0
"""Seconds for which every sample is kept."""
POINTS = 60
"""Samples kept of what is older, about."""


class History(Sequence[Sample]):
    """
    Samples in ascending order, none older than `window` seconds before the last (but one, so that the window is full).

    Every sample of the last minute is kept; older ones are thinned to one in a sixtieth of the window, so the length is
    bounded whatever the poll period. An incomplete sample is kept only as long as it is one of the last minute.
    """

    def __init__(self, window: float = 600.0, samples: Iterable[Sample] = ()) -> None:
        self.window = window
        self._samples: list[Sample] = []
        for sample in samples:
            self.add(sample)

    def add(self, sample: Sample) -> None:
        """Add a sample; those that are not earlier, because the clock went back, are forgotten."""
        samples = self._samples
        while samples and samples[-1].at >= sample.at:
            samples.pop()
        samples.append(sample)
        step = self.window / POINTS
        kept: list[Sample] = []
        for index, old in enumerate(samples):
            if sample.at - old.at <= FULL:
                kept.extend(samples[index:])
                break
            if old.complete and (not kept or old.at - kept[-1].at >= step * 0.9):
                kept.append(old)
        while len(kept) > 2 and kept[1].at <= sample.at - self.window:
            kept.pop(0)
        self._samples = kept

    def clear(self) -> None:
        """Forget all samples: what they show is another group's or another topic's."""
        self._samples = []

    @overload
    def __getitem__(self, index: int) -> Sample: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Sample]: ...

    def __getitem__(self, index: int | slice) -> Sample | Sequence[Sample]:
        return self._samples[index]

    def __len__(self) -> int:
        return len(self._samples)

    def __iter__(self) -> Iterator[Sample]:
        return iter(self._samples)

    def __reversed__(self) -> Iterator[Sample]:
        return reversed(self._samples)
