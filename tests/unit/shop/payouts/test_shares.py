"""What suppliers get."""

import pytest

from shop.payouts.shares import supplier_share


@pytest.mark.parametrize(("sold", "expected"), [(10_000, 8_500), (1, 0), (7, 5), (0, 0), (10**15 + 1, 85 * 10**13)])
def test_the_commission_is_rounded_up(sold, expected):
    assert supplier_share(sold) == expected
