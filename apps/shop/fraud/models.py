from django.db import models


class CustomerTotal(models.Model):
    """What a customer has ordered so far, as far as it was found to be harmless."""

    customer = models.OneToOneField("orders.Customer", models.CASCADE, primary_key=True, related_name="total")
    total_minor = models.BigIntegerField(default=0)
    orders = models.PositiveIntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.customer_id}: {self.total_minor} in {self.orders}"


class Assessment(models.Model):
    """The score of one order, from 0 (harmless) to 100."""

    order = models.OneToOneField("orders.Order", models.CASCADE, related_name="assessment")
    score = models.PositiveSmallIntegerField()
    refused = models.BooleanField()
    assessed_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"{self.order_id}: {self.score}"
