from django.db import models


class Payment(models.Model):
    """Money authorized for an order, and given back if the order is cancelled."""

    class State(models.TextChoices):
        AUTHORIZED = "authorized"
        REFUNDED = "refunded"

    order = models.OneToOneField("orders.Order", models.PROTECT, related_name="payment")
    amount_minor = models.BigIntegerField()
    currency = models.CharField(max_length=3)
    state = models.CharField(max_length=12, choices=State.choices, default=State.AUTHORIZED)
    gateway_reference = models.CharField(max_length=64)
    attempts = models.PositiveSmallIntegerField()
    authorized_at = models.DateTimeField(auto_now_add=True)
    refunded_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"{self.amount_minor} {self.currency} ({self.state})"
