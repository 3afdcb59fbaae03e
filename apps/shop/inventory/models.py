from django.db import models


class Stock(models.Model):
    """How many pieces of a product can still be sold."""

    product = models.OneToOneField("catalog.Product", models.CASCADE, primary_key=True, related_name="stock")
    available = models.IntegerField(default=0)

    class Meta:
        verbose_name_plural = "stock"
        constraints = [models.CheckConstraint(condition=models.Q(available__gte=0), name="stock_not_negative")]

    def __str__(self) -> str:
        return f"{self.product_id}: {self.available}"


class Reservation(models.Model):
    """Pieces set aside for one line of an order, until they are released."""

    line = models.OneToOneField("orders.OrderLine", models.CASCADE, related_name="reservation")
    stock = models.ForeignKey(Stock, models.PROTECT, related_name="reservations")
    quantity = models.PositiveIntegerField()
    released = models.BooleanField(default=False)
    reserved_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"{self.quantity} of {self.stock_id}"
