"""How suspicious an order is."""

import pytest

from shop.fraud.scoring import REFUSED_FROM, History, score

NEW = History(0, 0)
REGULAR = History(total_minor=100_000, orders=10)


@pytest.mark.parametrize(
    ("total", "history", "expected"),
    [
        (9_900, NEW, 0),
        (100_000, NEW, 40),
        # Large, and the first one: refused.
        (200_000, NEW, 75),
        (200_000, REGULAR, 75),
        (20_000, REGULAR, 0),
        # Twenty times what this customer usually spends.
        (199_999, REGULAR, 0),
        (100_000, History(4_900_000, 1_000), 75),
        (10_000, History(4_990_000, 2), 35),
    ],
)
def test_scores(total, history, expected):
    assert score(total, history) == expected


def test_everyday_orders_are_not_refused():
    assert score(30_000, History(60_000, 2)) < REFUSED_FROM


def test_a_score_is_at_most_100():
    assert score(10_000_000, History(100, 3)) == 100
