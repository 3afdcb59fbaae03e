"""Background work of payments: ahead of everything else that shares the workers."""

from typing import Any

from celery import shared_task

from shop.orders.states import OrderClosedError
from shop.payments import services
from shop.payments.gateway import GatewayUnavailableError, PaymentDeclinedError


@shared_task(
    bind=True,
    acks_late=True,
    autoretry_for=(GatewayUnavailableError,),
    retry_backoff=1,
    retry_backoff_max=30,
    retry_jitter=True,
    max_retries=6,
    throws=(PaymentDeclinedError, OrderClosedError),
    soft_time_limit=20,
    time_limit=30,
)
def authorize_payment(self: Any, order_id: str) -> int:
    """Authorize what an order costs and return the amount in minor units."""
    return services.authorize(order_id, attempt=self.request.retries).amount_minor


@shared_task(acks_late=True)
def refund_payment(order_id: str) -> int:
    """Give back what was authorized for a closed order."""
    return services.refund(order_id)
