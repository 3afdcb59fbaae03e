"""How suspicious an order is, judged by its amount and the customer's history."""

from dataclasses import dataclass

REFUSED_FROM = 70


@dataclass(frozen=True)
class History:
    """What a customer ordered before, in minor units."""

    total_minor: int
    orders: int


def score(total_minor: int, history: History) -> int:
    """Return 0 (harmless) to 100; an order scoring REFUSED_FROM or more is refused."""
    points = 0
    if total_minor >= 200_000:
        points += 35
    if history.orders == 0 and total_minor >= 100_000:
        points += 40
    if history.orders >= 3 and total_minor * history.orders >= 20 * history.total_minor:
        points += 40
    if history.total_minor + total_minor >= 5_000_000:
        points += 35
    return min(points, 100)
