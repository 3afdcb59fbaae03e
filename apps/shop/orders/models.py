from uuid import uuid4

from django.db import models

from shop.orders.states import State


class Customer(models.Model):
    """Who orders; `number` is what other systems know the customer by."""

    number = models.CharField(max_length=20, unique=True)
    name = models.CharField(max_length=120)
    email = models.CharField(max_length=254)
    phone = models.CharField(max_length=30, blank=True)
    card_token = models.CharField(max_length=60)
    blocked = models.BooleanField(default=False)
    subscribed = models.BooleanField(default=False)
    joined_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"{self.number} {self.name}"


class Order(models.Model):
    """
    One order of one customer, in one currency.

    The id is public and cannot be guessed. `idempotency_key` is the caller's, so that a repeated
    request finds the order that the first one placed; `request_digest` tells a repetition from a
    different order under the same key.
    """

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    customer = models.ForeignKey(Customer, models.PROTECT, related_name="orders")
    state = models.CharField(max_length=12, choices=[(s.value, s.value) for s in State], default=State.PLACED.value)
    currency = models.CharField(max_length=3)
    discount_minor = models.BigIntegerField()
    shipping_minor = models.BigIntegerField()
    total_minor = models.BigIntegerField()
    reason = models.CharField(max_length=200, blank=True)
    idempotency_key = models.CharField(max_length=100, unique=True)
    request_digest = models.CharField(max_length=64)
    placed_at = models.DateTimeField()
    state_changed_at = models.DateTimeField()

    class Meta:
        indexes = [models.Index(fields=["state", "placed_at"], name="order_state_placed")]

    def __str__(self) -> str:
        return f"{self.id} ({self.state})"


class OrderLine(models.Model):
    """A product in an order, at the price it had when the order was placed."""

    order = models.ForeignKey(Order, models.CASCADE, related_name="lines")
    product = models.ForeignKey("catalog.Product", models.PROTECT, related_name="+")
    quantity = models.PositiveIntegerField()
    unit_price_minor = models.BigIntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["order", "product"], name="orderline_one_per_product"),
            models.CheckConstraint(condition=models.Q(quantity__gt=0), name="orderline_quantity_positive"),
        ]

    def __str__(self) -> str:
        return f"{self.quantity} x {self.product_id}"

    @property
    def total_minor(self) -> int:
        """Return the price of all pieces."""
        return self.unit_price_minor * self.quantity
