"""The two things people do with orders: place them and cancel them."""

from collections.abc import Sequence
from functools import partial
from uuid import UUID

from django.conf import settings
from django.db import transaction

from shop.orders import services, tasks
from shop.orders.models import Order
from shop.orders.states import State


def place_order(customer_number: str, wanted: Sequence[services.Wanted], key: str) -> tuple[Order, bool]:
    """
    Place an order and set its fulfilment going; return it, and whether it is new.

    Raises what `services.create_order` raises. If the broker does not answer, the order stands and the
    exception says so: placing it again under the same key sets its fulfilment going.
    """
    with transaction.atomic():
        order, created = services.create_order(customer_number, wanted, key)
        if order.state == State.PLACED:
            tasks.validate_order.delay_on_commit(str(order.pk))
        if created:
            delay = settings.SHOP_FOLLOW_UP_DELAY
            tasks.follow_up_order.apply_async_on_commit((str(order.pk),), countdown=delay, expires=delay + 600)
    return order, created


def cancel_order(order_id: UUID | str) -> bool:
    """
    Cancel an order and set the clearing up going; return whether this call did it.

    Raise Order.DoesNotExist for an unknown order and IllegalMoveError if it is too late.
    """
    with transaction.atomic():
        cancelled = services.close(order_id, State.CANCELLED, "The customer cancelled the order.")
        if cancelled:
            transaction.on_commit(partial(tasks.clear_up(str(order_id)).apply_async))
    return cancelled
