"""Background work of orders: each step of fulfilment, and what follows when one fails."""

import logging
from functools import partial
from typing import Any

from celery import chain, chord, current_app, group, shared_task
from celery.canvas import Signature
from celery.exceptions import ChordError
from celery.result import AsyncResult
from django.conf import settings
from django.db import transaction
from django.db.utils import OperationalError

from shop.fraud.tasks import score_order
from shop.inventory.tasks import release_stock, reserve_line
from shop.notifications import services as notifications
from shop.notifications.tasks import delivery
from shop.orders import services
from shop.orders.models import OrderLine
from shop.orders.states import IllegalMoveError, OrderClosedError, State
from shop.payments.tasks import authorize_payment, refund_payment

logger = logging.getLogger(__name__)


@shared_task(acks_late=True, ignore_result=True, soft_time_limit=20, time_limit=30)
def validate_order(order_id: str) -> str:
    """Check an order and, if it holds, start its fulfilment."""
    try:
        order = services.validate(order_id)
    except services.InvalidOrderError as problem:
        _close(order_id, State.REJECTED, str(problem))
        return State.REJECTED.value
    except OrderClosedError:
        return "closed"
    if order.state == State.VALIDATED:
        fulfilment(order_id).apply_async()
    return order.state


def fulfilment(order_id: str) -> Signature:
    """Return the canvas that takes a validated order to its confirmation, or else rejects it."""
    lines = OrderLine.objects.filter(order=order_id).order_by("pk").values_list("pk", flat=True)
    return chain(
        group(reserve_line.si(line) for line in lines),
        mark_reserved.si(order_id),
        score_order.si(order_id),
        authorize_payment.si(order_id),
        confirm_order.si(order_id),
    ).on_error(reject_order.s(order_id=order_id))


@shared_task(throws=(OrderClosedError,), soft_time_limit=20, time_limit=30)
def mark_reserved(order_id: str) -> str:
    """Note that every line of an order has its pieces."""
    return services.advance(order_id, State.RESERVED).state


@shared_task(
    acks_late=True,
    autoretry_for=(OperationalError,),
    retry_backoff=1,
    max_retries=3,
    throws=(OrderClosedError,),
    soft_time_limit=20,
    time_limit=30,
)
def confirm_order(order_id: str) -> str:
    """Confirm a paid order, tell the customer and have the suppliers paid."""
    with transaction.atomic():
        order = services.advance(order_id, State.CONFIRMED)
        notices = notifications.announce(order, notifications.Kind.CONFIRMED)
        transaction.on_commit(partial(_after_confirmation, order_id, notices))
    return order.state


def _after_confirmation(order_id: str, notices: list[Any]) -> None:
    logger.info("order %s is confirmed", order_id)
    group(delivery(notice) for notice in notices).apply_async()
    current_app.send_task("shop.payouts.tasks.create_payouts", (order_id,))


@shared_task(bind=True, max_retries=5, soft_time_limit=20, time_limit=30)
def reject_order(self: Any, failed_task_id: str, *, order_id: str) -> bool:
    """Reject an order because a step of its fulfilment failed for good."""
    failure = AsyncResult(failed_task_id).result
    # A chord's failure names the task that failed and its exception: nothing to show to a customer. It is also the one
    # that may not be stored yet, because a chord calls its error callbacks first.
    in_chord = failure is None or isinstance(failure, ChordError)
    reason = "Not all products could be reserved." if in_chord else str(failure)
    try:
        return _close(order_id, State.REJECTED, reason)
    except IllegalMoveError:
        logger.warning("order %s failed in task %s after it was confirmed", order_id, failed_task_id)
        return False
    except OperationalError as problem:
        raise self.retry(exc=problem, countdown=2) from problem


def _close(order_id: str, target: State, reason: str) -> bool:
    with transaction.atomic():
        closed = services.close(order_id, target, reason)
        if closed or target is State.REJECTED:
            # A line may have been reserved while the order was being closed: what is held goes back
            # also when somebody else closed the order first.
            transaction.on_commit(partial(_release_and_announce, order_id, announce=closed))
    return closed


def _release_and_announce(order_id: str, *, announce: bool) -> None:
    if announce:
        clear_up(order_id).apply_async()
    else:
        release_stock.delay(order_id)


def clear_up(order_id: str) -> Signature:
    """Return the canvas that gives stock and money of a closed order back and then says so."""
    return chord([release_stock.si(order_id), refund_payment.si(order_id)], announce_closing.si(order_id))


@shared_task(soft_time_limit=20, time_limit=30)
def announce_closing(order_id: str) -> int:
    """Tell the customer that an order was rejected, cancelled or expired."""
    with transaction.atomic():
        order = services.locked(order_id)
        notices = notifications.announce(order, notifications.Kind.for_closed(order.state))
        for notice in notices:
            transaction.on_commit(delivery(notice).apply_async)
    return len(notices)


@shared_task(ignore_result=True)
def follow_up_order(order_id: str) -> None:
    """Tell the customer that an order takes longer, if it does."""
    if services.is_under_way(order_id):
        with transaction.atomic():
            order = services.locked(order_id)
            for notice in notifications.announce(order, notifications.Kind.DELAYED):
                transaction.on_commit(delivery(notice).apply_async)


@shared_task(soft_time_limit=50, time_limit=60)
def expire_unpaid_orders() -> int:
    """Expire orders that were never paid, also those whose fulfilment was cut off by a crash."""
    expired = 0
    for order_id in services.unpaid_since(services.unpaid_deadline(settings.SHOP_UNPAID_AFTER)):
        try:
            expired += _close(str(order_id), State.EXPIRED, "The order was not paid in time.")
        except IllegalMoveError:
            logger.info("order %s was paid at the last moment", order_id)
    return expired
