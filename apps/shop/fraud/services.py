"""Score orders against what their customers ordered before."""

from uuid import UUID

from django.db import transaction

from shop.fraud.models import Assessment, CustomerTotal
from shop.fraud.scoring import REFUSED_FROM, History, score
from shop.orders.models import Order
from shop.orders.services import locked, move
from shop.orders.states import CLOSED, OrderClosedError, State


class SuspectedFraudError(Exception):
    """An order is too suspicious to be accepted."""


def assess(order_id: UUID | str) -> int:
    """
    Return the order's score and clear the order; a repetition returns the first score.

    Raise SuspectedFraudError if it is refused: the refusal is on record then.
    """
    with transaction.atomic():
        order = locked(order_id)
        if order.state in CLOSED:
            raise OrderClosedError(f"The order is {order.state} and needs no score.")
        assessment = Assessment.objects.filter(order=order).first()
        if assessment is None:
            assessment = _assess(order)
        if not assessment.refused:
            move(order, State.CLEARED)
    if assessment.refused:
        raise SuspectedFraudError(f"The order scored {assessment.score} of 100 for fraud.")
    return assessment.score


def _assess(order: Order) -> Assessment:
    total = CustomerTotal.objects.select_for_update(no_key=True).filter(pk=order.customer_id).first()
    if total is None:
        CustomerTotal.objects.get_or_create(pk=order.customer_id)
        total = CustomerTotal.objects.select_for_update(no_key=True).get(pk=order.customer_id)
    points = score(order.total_minor, History(total.total_minor, total.orders))
    refused = points >= REFUSED_FROM
    if not refused:
        total.total_minor += order.total_minor
        total.orders += 1
        total.save(update_fields=["total_minor", "orders"])
    return Assessment.objects.create(order=order, score=points, refused=refused)
