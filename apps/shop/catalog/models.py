from django.core.validators import URLValidator
from django.db import models


class Supplier(models.Model):
    """Who delivers products, is paid for them, and publishes their prices."""

    slug = models.SlugField(unique=True)
    name = models.CharField(max_length=120)
    feed_url = models.CharField(max_length=300, blank=True, validators=[URLValidator(schemes=["http", "https"])])
    active = models.BooleanField(default=True)
    feed_read_at = models.DateTimeField(null=True, blank=True)
    feed_problem = models.CharField(max_length=200, blank=True)

    def __str__(self) -> str:
        return self.name


class Product(models.Model):
    """Something that can be ordered; prices are minor units (cents) of `currency`."""

    sku = models.CharField(max_length=20, unique=True)
    name = models.CharField(max_length=120)
    supplier = models.ForeignKey(Supplier, models.PROTECT, related_name="products")
    price_minor = models.BigIntegerField()
    currency = models.CharField(max_length=3, default="EUR")
    active = models.BooleanField(default=True)
    price_changed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [models.CheckConstraint(condition=models.Q(price_minor__gt=0), name="product_price_positive")]

    def __str__(self) -> str:
        return f"{self.sku} {self.name}"
