"""What orders cost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shop.orders.pricing import price, share


@pytest.mark.parametrize(
    ("lines", "subtotal", "discount", "shipping"),
    [
        ([(990, 1)], 990, 0, 490),
        ([(4_999, 1)], 4_999, 0, 490),
        # Shipping is free from 50.00 on.
        ([(2_500, 2)], 5_000, 0, 0),
        ([(19_999, 1)], 19_999, 0, 0),
        # 2% from 200.00 on, 5% from 500.00 on.
        ([(10_000, 2)], 20_000, 400, 0),
        ([(49_999, 1)], 49_999, 1_000, 0),
        ([(50_000, 1)], 50_000, 2_500, 0),
        ([], 0, 0, 490),
    ],
)
def test_prices(lines, subtotal, discount, shipping):
    cost = price(lines)
    assert (cost.subtotal_minor, cost.discount_minor, cost.shipping_minor) == (subtotal, discount, shipping)
    assert cost.total_minor == subtotal - discount + shipping


@pytest.mark.parametrize(
    ("amount", "points", "expected"), [(1, 5_000, 1), (1, 4_999, 0), (3, 5_000, 2), (10**15, 1, 10**11)]
)
def test_a_half_is_rounded_up_and_large_amounts_stay_exact(amount, points, expected):
    assert share(amount, points) == expected


@given(st.lists(st.tuples(st.integers(1, 10**9), st.integers(1, 100)), max_size=20))
def test_a_total_is_a_whole_number_and_never_negative(lines):
    total = price(lines).total_minor
    assert type(total) is int
    assert total >= 0
