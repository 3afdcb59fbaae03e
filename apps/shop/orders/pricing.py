"""What an order costs, in minor units of one currency; integers only."""

from collections.abc import Iterable
from dataclasses import dataclass

SHIPPING_MINOR = 490
FREE_SHIPPING_FROM_MINOR = 5_000
DISCOUNT_STEPS = ((50_000, 500), (20_000, 200))
"""Subtotals in minor units from which a discount in basis points applies, largest first."""


@dataclass(frozen=True)
class Price:
    """The parts of an order's total, each in minor units."""

    subtotal_minor: int
    discount_minor: int
    shipping_minor: int

    @property
    def total_minor(self) -> int:
        """Return what the customer pays."""
        return self.subtotal_minor - self.discount_minor + self.shipping_minor


def share(amount_minor: int, basis_points: int) -> int:
    """Return a share of an amount that is not negative, a half rounded up."""
    return (amount_minor * basis_points + 5_000) // 10_000


def price(lines: Iterable[tuple[int, int]]) -> Price:
    """Return the price of `(unit price, quantity)` lines."""
    subtotal = sum(unit_minor * quantity for unit_minor, quantity in lines)
    basis_points = next((points for least, points in DISCOUNT_STEPS if subtotal >= least), 0)
    return Price(
        subtotal_minor=subtotal,
        discount_minor=share(subtotal, basis_points),
        shipping_minor=0 if subtotal >= FREE_SHIPPING_FROM_MINOR else SHIPPING_MINOR,
    )
