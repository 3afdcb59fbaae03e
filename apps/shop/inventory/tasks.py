"""Background work of inventory."""

from celery import shared_task
from django.db.utils import OperationalError

from shop.inventory import services
from shop.orders.states import OrderClosedError


@shared_task(
    acks_late=True,
    throws=(services.OutOfStockError, OrderClosedError),
    autoretry_for=(OperationalError,),
    retry_backoff=1,
    max_retries=3,
)
def reserve_line(line_id: int) -> int:
    """Set the pieces of one line of an order aside."""
    return services.reserve(line_id)


@shared_task(acks_late=True, autoretry_for=(OperationalError,), retry_backoff=1, max_retries=5)
def release_stock(order_id: str) -> int:
    """Give back the pieces that an order holds."""
    return services.release(order_id)


@shared_task(ignore_result=True)
def restock(sku: str, quantity: int) -> None:
    """Add pieces that a supplier delivered."""
    services.restock(sku, quantity)
