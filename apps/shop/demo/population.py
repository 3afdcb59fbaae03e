"""
The people and things of the rehearsal, generated from a seed; no database here.

Every part is drawn from a generator of its own, so that asking for more customers changes none of those
that were there before.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

FIRST = ("Ada", "Bo", "Cleo", "Dag", "Edda", "Finn", "Gro", "Hal", "Ines", "Jon", "Kaja", "Mia", "Odd", "Pia", "Una")
LAST = ("Aas", "Berg", "Dahl", "Eide", "Foss", "Gran", "Juul", "Krog", "Lund", "Moe", "Nygård", "Ravn", "Tveit", "Vik")
MATERIALS = ("Oak", "Steel", "Linen", "Copper", "Glass", "Wool", "Slate", "Birch", "Brass", "Cork", "Felt", "Clay")
THINGS = ("Lamp", "Chair", "Bowl", "Shelf", "Clock", "Kettle", "Rug", "Tray", "Vase", "Bench", "Mirror", "Stool")

NOBODY_THERE = 12
DECLINED = 12
BLOCKED = 8
WRONG_NUMBER = 6
SUBSCRIBED = 400
SCARCE = 30
WITHDRAWN = 10
"""Shares of the population, per mille."""


@dataclass(frozen=True)
class SupplierSeed:
    """A supplier, and the kind of feed that it publishes."""

    slug: str
    name: str


@dataclass(frozen=True)
class ProductSeed:
    """A product with its first stock; the price is in minor units."""

    sku: str
    name: str
    supplier: str
    price_minor: int
    stock: int
    active: bool


@dataclass(frozen=True)
class CustomerSeed:
    """A customer; some cannot be written to, some cannot pay."""

    number: str
    name: str
    email: str
    phone: str
    card_token: str
    blocked: bool
    subscribed: bool


def sku(position: int) -> str:
    """Return the SKU of the product at a position counted from 0."""
    return f"P{position + 1:05d}"


def customer_number(position: int) -> str:
    """Return the number of the customer at a position counted from 0."""
    return f"C{position + 1:06d}"


def supplier_count(products: int) -> int:
    """Return how many suppliers deliver that many products."""
    return max(3, min(20, products // 10))


def suppliers(products: int) -> Iterator[SupplierSeed]:
    """Yield the suppliers of that many products."""
    for position in range(supplier_count(products)):
        name = f"{LAST[position % len(LAST)]} & {LAST[(position * 7 + 3) % len(LAST)]}"
        yield SupplierSeed(f"supplier-{position + 1:02d}", name)


def products(seed: int, count: int) -> Iterator[ProductSeed]:
    """Yield products; a few are scarce, a few no longer sold."""
    draw = Random(f"products:{seed}")  # noqa: S311 - repeatable, and nothing is kept secret
    for position in range(count):
        material, thing = draw.choice(MATERIALS), draw.choice(THINGS)
        price = draw.choice((490, 990, 1_290, 1_990, 2_490, 3_990, 5_990, 8_990, 14_990, 49_900))
        kind = draw.randrange(1000)
        yield ProductSeed(
            sku=sku(position),
            name=f"{material} {thing}",
            supplier=f"supplier-{position % supplier_count(count) + 1:02d}",
            price_minor=price,
            stock=5 if kind < SCARCE else 2_000,
            active=kind < 1000 - WITHDRAWN,
        )


def customers(seed: int, count: int) -> Iterator[CustomerSeed]:
    """Yield customers; a few have addresses, numbers or cards that do not work."""
    draw = Random(f"customers:{seed}")  # noqa: S311 - repeatable, and nothing is kept secret
    for position in range(count):
        first, last = draw.choice(FIRST), draw.choice(LAST)
        mailbox = f"{first}.{last}.{position + 1}".lower().replace("å", "aa")
        nobody, declined, blocked, wrong, subscribed = (draw.randrange(1000) for _ in range(5))
        digits = f"{draw.randrange(10**8):08d}"
        yield CustomerSeed(
            number=customer_number(position),
            name=f"{first} {last}",
            email=f"{mailbox}@{'nowhere.invalid' if nobody < NOBODY_THERE else 'example.net'}",
            phone=digits if wrong < WRONG_NUMBER else f"+47{digits}",
            card_token=f"tok_{'declined_' if declined < DECLINED else ''}{position + 1}",
            blocked=blocked < BLOCKED,
            subscribed=subscribed < SUBSCRIBED,
        )
