"""Pay suppliers their share of confirmed orders."""

from collections import defaultdict
from datetime import timedelta
from uuid import UUID

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser
from django.db import transaction
from django.utils import timezone

from shop.orders.models import OrderLine
from shop.orders.services import locked
from shop.orders.states import State
from shop.payouts.models import Payout
from shop.payouts.shares import supplier_share


class NotAwaitingApprovalError(Exception):
    """A payout was approved that does not wait for it."""


def create(order_id: UUID | str) -> list[Payout]:
    """Return the payouts that this call created for a confirmed order, one per supplier."""
    with transaction.atomic():
        order = locked(order_id)
        if order.state != State.CONFIRMED or Payout.objects.filter(order=order).exists():
            return []
        sold: dict[int, int] = defaultdict(int)
        for line in OrderLine.objects.filter(order=order).select_related("product"):
            sold[line.product.supplier_id] += line.total_minor
        due_at = timezone.now() + timedelta(seconds=settings.SHOP_PAYOUT_DELAY)
        return Payout.objects.bulk_create(
            Payout(
                order=order,
                supplier_id=supplier,
                amount_minor=amount,
                currency=order.currency,
                state=_first_state(amount),
                due_at=due_at,
            )
            for supplier, amount in ((supplier, supplier_share(minor)) for supplier, minor in sorted(sold.items()))
            if amount > 0
        )


def _first_state(amount_minor: int) -> Payout.State:
    large = amount_minor >= settings.SHOP_LARGE_PAYOUT_MINOR
    return Payout.State.AWAITING_APPROVAL if large else Payout.State.SCHEDULED


def approve(payout_id: int, user: AbstractBaseUser) -> Payout:
    """Return the payout, approved by `user`; raise NotAwaitingApprovalError if it does not wait."""
    with transaction.atomic():
        payout = Payout.objects.select_for_update(no_key=True).get(pk=payout_id)
        if payout.state != Payout.State.AWAITING_APPROVAL:
            raise NotAwaitingApprovalError(f"Payout {payout.pk} is {payout.state}.")
        payout.state = Payout.State.SCHEDULED
        payout.approved_by_id = user.pk
        payout.approved_at = timezone.now()
        payout.save(update_fields=["state", "approved_by", "approved_at"])
        return payout


def send(payout_id: int) -> str:
    """Send a scheduled payout, or void it if its order was cancelled; return the state it has then."""
    with transaction.atomic():
        order_id = Payout.objects.values_list("order_id", flat=True).get(pk=payout_id)
        order = locked(order_id)
        payout = Payout.objects.select_for_update(no_key=True).get(pk=payout_id)
        if payout.state == Payout.State.SCHEDULED:
            if order.state == State.CONFIRMED:
                payout.state = Payout.State.SENT
                payout.sent_at = timezone.now()
            else:
                payout.state = Payout.State.VOID
            payout.save(update_fields=["state", "sent_at"])
        return payout.state
