"""Authorize and refund what orders cost."""

from uuid import UUID

from django.db import transaction
from django.utils import timezone

from shop.orders.models import Customer
from shop.orders.services import advance, locked
from shop.orders.states import CLOSED, State
from shop.payments import gateway
from shop.payments.models import Payment


def authorize(order_id: UUID | str, attempt: int) -> Payment:
    """
    Return the order's payment, authorized; `attempt` counts from 0.

    Raise GatewayUnavailableError, PaymentDeclinedError or OrderClosedError.
    """
    with transaction.atomic():
        order = advance(order_id, State.AUTHORIZED)
        payment = Payment.objects.filter(order=order).first()
        if payment is not None:
            return payment
        card_token = Customer.objects.values_list("card_token", flat=True).get(pk=order.customer_id)
        reference = gateway.authorize(
            card_token, order.total_minor, order.currency, order=str(order.pk), attempt=attempt
        )
        return Payment.objects.create(
            order=order,
            amount_minor=order.total_minor,
            currency=order.currency,
            gateway_reference=reference,
            attempts=attempt + 1,
        )


def refund(order_id: UUID | str) -> int:
    """Give back what was authorized for a closed order; return the amount, 0 if there is none left."""
    with transaction.atomic():
        if locked(order_id).state not in CLOSED:
            return 0
        payment = Payment.objects.filter(order=order_id, state=Payment.State.AUTHORIZED).first()
        if payment is None:
            return 0
        payment.state = Payment.State.REFUNDED
        payment.refunded_at = timezone.now()
        payment.save(update_fields=["state", "refunded_at"])
        return payment.amount_minor
