"""What people do in the rehearsal: an endless sequence that follows from a seed; no database here."""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from shop.demo.population import customer_number, sku


@dataclass(frozen=True)
class PlaceOrder:
    """A customer orders `(sku, quantity)` lines; `serial` counts the orders from 0."""

    serial: int
    customer: str
    lines: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class CancelOrder:
    """A customer cancels the order with that serial."""

    serial: int


@dataclass(frozen=True)
class Restock:
    """A supplier delivers pieces."""

    sku: str
    quantity: int


@dataclass(frozen=True)
class SendNewsletter:
    """Marketing writes to some subscribers, `wait` seconds from now."""

    serial: int
    audience: int
    wait: int


@dataclass(frozen=True)
class BadOrder:
    """Somebody orders what cannot be ordered; it is refused at once."""

    customer: str
    lines: tuple[tuple[str, int], ...]


Action = PlaceOrder | CancelOrder | Restock | SendNewsletter | BadOrder

SHARES = {"place": 870, "cancel": 50, "restock": 40, "newsletter": 10, "bad": 30}
RECENT = 100
"""A cancelled order is one of this many placed last."""


def plan(seed: int, customers: int, products: int) -> Iterator[Action]:
    """Yield actions without end; the same arguments always yield the same ones."""
    draw = Random(f"actions:{seed}")  # noqa: S311 - repeatable, and nothing is kept secret
    placed, newsletters = 0, 0
    uncancelled: list[int] = []
    while True:
        kind = draw.choices(list(SHARES), weights=list(SHARES.values()))[0]
        if kind == "cancel" and uncancelled:
            yield CancelOrder(uncancelled.pop(draw.randrange(len(uncancelled))))
        elif kind == "restock":
            yield Restock(sku(draw.randrange(products)), draw.choice((25, 50, 100)))
        elif kind == "newsletter":
            yield SendNewsletter(newsletters, audience=draw.randint(3, 8), wait=draw.randint(1, 4))
            newsletters += 1
        elif kind == "bad":
            yield _bad_order(draw, customers, products)
        else:
            yield PlaceOrder(placed, customer_number(draw.randrange(customers)), _lines(draw, products))
            uncancelled = [*uncancelled, placed][-RECENT:]
            placed += 1


def _lines(draw: Random, products: int) -> tuple[tuple[str, int], ...]:
    count = min(draw.choice((1, 1, 2, 2, 3)), products)
    return tuple((sku(position), draw.choice((1, 1, 1, 2, 3))) for position in draw.sample(range(products), count))


def _bad_order(draw: Random, customers: int, products: int) -> BadOrder:
    customer, lines = customer_number(draw.randrange(customers)), _lines(draw, products)
    mistake = draw.choice(("customer", "product", "quantity", "empty", "twice"))
    if mistake == "customer":
        return BadOrder("C999999999", lines)
    if mistake == "product":
        return BadOrder(customer, (*lines, ("P-UNKNOWN", 1)))
    if mistake == "quantity":
        return BadOrder(customer, ((lines[0][0], 0),))
    if mistake == "empty":
        return BadOrder(customer, ())
    return BadOrder(customer, (lines[0], lines[0]))
