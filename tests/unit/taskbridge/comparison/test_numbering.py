from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from taskbridge.comparison.numbering import Numbering


def test_a_sequence_without_holes_misses_nothing() -> None:
    numbering = Numbering(retain=3)
    for number in (5, 3, 4, 6, 4, 7, 8):
        numbering.add(number)
    assert numbering.missing() == 0


def test_nothing_noted_misses_nothing() -> None:
    assert Numbering().missing() == 0


@given(st.lists(st.integers(0, 60), min_size=1), st.integers(1, 10))
def test_holes_are_what_lies_between_lowest_and_highest_unnoted(numbers: list[int], retain: int) -> None:
    numbering = Numbering(retain)
    for number in numbers:
        numbering.add(number)
    assert numbering.missing() == max(numbers) - min(numbers) + 1 - len(set(numbers))
