"""Background work of fraud."""

from celery import shared_task

from shop.fraud import services
from shop.orders.states import OrderClosedError


@shared_task(acks_late=True, throws=(services.SuspectedFraudError, OrderClosedError))
def score_order(order_id: str) -> int:
    """Score an order; a suspicious one fails."""
    return services.assess(order_id)
