"""Numbers in sentences."""

from __future__ import annotations

import pytest

from lagscaler.policy import words


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (words.seconds(0.25), "0.2 s"),
        (words.seconds(5), "5 s"),
        (words.seconds(84.4), "84 s"),
        (words.seconds(600), "10 min"),
        (words.seconds(14_400), "4 h"),
        (words.rate(0), "0/s"),
        (words.rate(0.02), "0.02/s"),
        (words.rate(0.5), "0.5/s"),
        (words.rate(4.26), "4.3/s"),
        (words.rate(41.2), "41/s"),
        (words.records(1), "1 record"),
        (words.records(12_400), "12,400 records"),
        (words.replicas(1), "1 replica"),
        (words.replicas(3), "3 replicas"),
        (words.stay(1), "1 replica stays"),
        (words.stay(3), "3 replicas stay"),
        (words.partitions([("a", 1)]), "a-1"),
        (words.partitions([("a", number) for number in range(5)]), "a-0, a-1, a-2 and 2 more"),
    ],
)
def test_table(said, expected):
    assert said == expected
