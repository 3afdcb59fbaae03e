"""Decisions that follow from the data."""

from collections import Counter

from shop.chance import per_mille


def test_the_same_parts_always_give_the_same_number():
    # A golden value: what the rehearsal does to an address must not change between versions.
    assert per_mille("greylist", "ada@example.net") == per_mille("greylist", "ada@example.net") == 787


def test_parts_are_kept_apart():
    assert per_mille("ab", "c") != per_mille("a", "bc")


def test_numbers_are_spread_evenly():
    tenths = Counter(per_mille("spread", number) // 100 for number in range(10_000))
    assert set(tenths) == set(range(10))
    assert all(850 < count < 1150 for count in tenths.values())
