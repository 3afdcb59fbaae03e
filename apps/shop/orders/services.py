"""
What happens to orders, in database transactions; nothing here knows how work is queued.

Every function may be repeated: it locks the order's row first and leaves an order that is already
further on as it is.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from uuid import UUID

from django.db import IntegrityError, transaction
from django.utils import timezone

from shop.catalog.models import Product
from shop.orders.models import Customer, Order, OrderLine
from shop.orders.pricing import price
from shop.orders.states import CLOSED, UNPAID, State, check_move, passed

MAX_QUANTITY = 100
MAX_LINES = 20


class InvalidOrderError(Exception):
    """An order cannot be accepted as it is; the message says why."""


class KeyReusedError(Exception):
    """An idempotency key was used before, for a different order."""


@dataclass(frozen=True)
class Wanted:
    """One line of an order that is to be placed."""

    sku: str
    quantity: int


def create_order(customer_number: str, wanted: Sequence[Wanted], key: str) -> tuple[Order, bool]:
    """
    Return the order placed under `key`, and whether this call placed it.

    Raise InvalidOrderError for unknown customers, products and mixed currencies, KeyReusedError if
    the key belongs to a different order.
    """
    digest = _digest(customer_number, wanted)
    try:
        with transaction.atomic():
            order = _insert(customer_number, wanted, key, digest)
    except IntegrityError:
        placed = Order.objects.filter(idempotency_key=key).first()
        if placed is None:
            raise
        if placed.request_digest != digest:
            raise KeyReusedError(f"The idempotency key {key!r} was used for a different order.") from None
        return placed, False
    return order, True


def _digest(customer_number: str, wanted: Sequence[Wanted]) -> str:
    lines = sorted((line.sku, line.quantity) for line in wanted)
    return sha256(json.dumps([customer_number, lines]).encode()).hexdigest()


def _insert(customer_number: str, wanted: Sequence[Wanted], key: str, digest: str) -> Order:
    customer = Customer.objects.filter(number=customer_number).first()
    if customer is None:
        raise InvalidOrderError(f"There is no customer {customer_number!r}.")
    twice = [sku for sku, count in Counter(line.sku for line in wanted).items() if count > 1]
    if twice:
        raise InvalidOrderError(f"The product {twice[0]!r} is ordered in two lines: put it in one.")
    if not 0 < len(wanted) <= MAX_LINES:
        raise InvalidOrderError(f"An order has 1 to {MAX_LINES} lines, not {len(wanted)}.")
    products = {product.sku: product for product in Product.objects.filter(sku__in=[line.sku for line in wanted])}
    for line in wanted:
        if line.sku not in products:
            raise InvalidOrderError(f"There is no product {line.sku!r}.")
        if not 0 < line.quantity <= MAX_QUANTITY:
            raise InvalidOrderError(f"The quantity of {line.sku!r} must be 1 to {MAX_QUANTITY}.")
    currencies = {product.currency for product in products.values()}
    if len(currencies) > 1:
        raise InvalidOrderError("All products of an order must have the same currency.")
    cost = price((products[line.sku].price_minor, line.quantity) for line in wanted)
    now = timezone.now()
    order = Order.objects.create(
        customer=customer,
        currency=currencies.pop(),
        discount_minor=cost.discount_minor,
        shipping_minor=cost.shipping_minor,
        total_minor=cost.total_minor,
        idempotency_key=key,
        request_digest=digest,
        placed_at=now,
        state_changed_at=now,
    )
    OrderLine.objects.bulk_create(
        OrderLine(
            order=order,
            product=products[line.sku],
            quantity=line.quantity,
            unit_price_minor=products[line.sku].price_minor,
        )
        for line in wanted
    )
    return order


def locked(order_id: UUID | str) -> Order:
    """
    Return an order whose row stays locked until the caller's transaction ends.

    Whoever locks other rows as well locks the order first, so that two tasks never wait for each other.
    """
    # The key does not change, so whoever inserts rows that refer to the order need not wait.
    return Order.objects.select_for_update(no_key=True).get(pk=order_id)


def advance(order_id: UUID | str, target: State) -> Order:
    """Return the order, moved on to `target` unless it is that far already."""
    with transaction.atomic(savepoint=False):
        order = locked(order_id)
        move(order, target)
        return order


def move(order: Order, target: State, reason: str = "") -> None:
    """Move a locked order to `target` unless it is that far already; raise as `check_move` does."""
    if passed(order.state, target):
        return
    check_move(order.state, target)
    order.state = target.value
    order.reason = reason[:200]
    order.state_changed_at = timezone.now()
    order.save(update_fields=["state", "reason", "state_changed_at"])


def validate(order_id: UUID | str) -> Order:
    """Return the order, validated; raise InvalidOrderError if it cannot be delivered at all."""
    with transaction.atomic():
        order = locked(order_id)
        if passed(order.state, State.VALIDATED):
            return order
        if Customer.objects.filter(pk=order.customer_id, blocked=True).exists():
            raise InvalidOrderError("The customer is blocked.")
        withdrawn = order.lines.filter(product__active=False).values_list("product__sku", flat=True).first()
        if withdrawn:
            raise InvalidOrderError(f"The product {withdrawn!r} is no longer sold.")
        move(order, State.VALIDATED)
        return order


def close(order_id: UUID | str, target: State, reason: str) -> bool:
    """
    Reject, cancel or expire an order; return whether this call did it.

    Raise IllegalMoveError if it is too late for that.
    """
    with transaction.atomic():
        order = locked(order_id)
        if order.state in CLOSED:
            return False
        move(order, target, reason)
        return True


def unpaid_since(moment: datetime, limit: int = 200) -> list[UUID]:
    """Return the oldest orders that were placed before `moment` and are still without payment."""
    waiting = Order.objects.filter(state__in=[state.value for state in UNPAID], placed_at__lt=moment)
    return list(waiting.order_by("placed_at").values_list("pk", flat=True)[:limit])


def is_under_way(order_id: UUID | str) -> bool:
    """Tell whether an order is neither confirmed nor closed."""
    states = [state.value for state in (*UNPAID, State.AUTHORIZED)]
    return Order.objects.filter(pk=order_id, state__in=states).exists()


def unpaid_deadline(seconds: float) -> datetime:
    """Return the moment before which an order must have been placed to be expired now."""
    return timezone.now() - timedelta(seconds=seconds)
