from django.conf import settings
from django.db import models


class Payout(models.Model):
    """A supplier's share of one order; a large one waits until a person approves it."""

    class State(models.TextChoices):
        AWAITING_APPROVAL = "awaiting"
        SCHEDULED = "scheduled"
        SENT = "sent"
        VOID = "void"

    order = models.ForeignKey("orders.Order", models.PROTECT, related_name="payouts")
    supplier = models.ForeignKey("catalog.Supplier", models.PROTECT, related_name="payouts")
    amount_minor = models.BigIntegerField()
    currency = models.CharField(max_length=3)
    state = models.CharField(max_length=12, choices=State.choices)
    due_at = models.DateTimeField()
    sent_at = models.DateTimeField(null=True, blank=True)
    approved_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, related_name="+")
    approved_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        permissions = [("approve_payout", "Can approve large payouts")]
        constraints = [
            models.UniqueConstraint(fields=["order", "supplier"], name="payout_one_per_supplier"),
            models.CheckConstraint(condition=models.Q(amount_minor__gt=0), name="payout_positive"),
        ]

    def __str__(self) -> str:
        return f"{self.amount_minor} {self.currency} to {self.supplier_id} ({self.state})"
