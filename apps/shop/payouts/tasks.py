"""Background work of payouts: it can wait, unless a person released it."""

from celery import shared_task

from shop.payouts import services
from shop.payouts.models import Payout

WHEN_DUE = 6
WHEN_APPROVED = 0


@shared_task(acks_late=True)
def create_payouts(order_id: str) -> list[int]:
    """Create a confirmed order's payouts and schedule those that need no approval."""
    payouts = services.create(order_id)
    for payout in payouts:
        if payout.state == Payout.State.SCHEDULED:
            send_payout.apply_async((payout.pk,), eta=payout.due_at, priority=WHEN_DUE)
    return [payout.pk for payout in payouts]


@shared_task(acks_late=True, soft_time_limit=20, time_limit=30)
def send_payout(payout_id: int) -> str:
    """Send one payout."""
    return services.send(payout_id)
