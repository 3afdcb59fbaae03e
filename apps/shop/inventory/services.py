"""Stock: pieces are reserved for lines of orders, released, and restocked."""

from uuid import UUID

from django.db import transaction
from django.db.models import F

from shop.catalog.models import Product
from shop.inventory.models import Reservation, Stock
from shop.orders.models import OrderLine
from shop.orders.services import locked
from shop.orders.states import CLOSED, OrderClosedError


class OutOfStockError(Exception):
    """There are fewer pieces than an order wants."""


def reserve(line_id: int) -> int:
    """
    Set the pieces of one line aside and return how many are left; a repetition changes nothing.

    Raise OutOfStockError if there are too few, OrderClosedError if the order no longer needs them.
    """
    with transaction.atomic():
        line = OrderLine.objects.get(pk=line_id)
        order = locked(line.order_id)
        if order.state in CLOSED:
            raise OrderClosedError(f"The order is {order.state} and needs no stock.")
        stock = Stock.objects.select_for_update(no_key=True).get(pk=line.product_id)
        if Reservation.objects.filter(line=line).exists():
            return stock.available
        if stock.available < line.quantity:
            sku = Product.objects.values_list("sku", flat=True).get(pk=line.product_id)
            raise OutOfStockError(f"Out of stock: {line.quantity} of {sku} wanted, {stock.available} left.")
        stock.available -= line.quantity
        stock.save(update_fields=["available"])
        Reservation.objects.create(line=line, stock=stock, quantity=line.quantity)
        return stock.available


def release(order_id: UUID | str) -> int:
    """Give back what an order holds and return how many pieces that were."""
    with transaction.atomic():
        locked(order_id)
        held = list(Reservation.objects.filter(line__order=order_id, released=False).order_by("stock_id"))
        for reservation in held:
            Stock.objects.filter(pk=reservation.stock_id).update(available=F("available") + reservation.quantity)
        Reservation.objects.filter(pk__in=[reservation.pk for reservation in held]).update(released=True)
        return sum(reservation.quantity for reservation in held)


def restock(sku: str, quantity: int) -> int:
    """Add pieces of a product and return how many there are; raise Product.DoesNotExist."""
    with transaction.atomic():
        product = Product.objects.get(sku=sku)
        Stock.objects.get_or_create(product=product)
        stock = Stock.objects.select_for_update(no_key=True).get(pk=product.pk)
        stock.available += quantity
        stock.save(update_fields=["available"])
        return stock.available
