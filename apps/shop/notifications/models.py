from django.db import models


class Notification(models.Model):
    """One mail or text message to one customer."""

    class Channel(models.TextChoices):
        MAIL = "mail"
        TEXT = "text"

    class State(models.TextChoices):
        PENDING = "pending"
        SENT = "sent"
        FAILED = "failed"

    customer = models.ForeignKey("orders.Customer", models.CASCADE, related_name="notifications")
    order = models.ForeignKey("orders.Order", models.CASCADE, null=True, blank=True, related_name="notifications")
    channel = models.CharField(max_length=4, choices=Channel.choices)
    kind = models.CharField(max_length=80)
    recipient = models.CharField(max_length=254)
    subject = models.CharField(max_length=150)
    body = models.TextField()
    state = models.CharField(max_length=8, choices=State.choices, default=State.PENDING)
    attempts = models.PositiveSmallIntegerField(default=0)
    problem = models.CharField(max_length=200, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["order", "kind", "channel"],
                condition=models.Q(order__isnull=False),
                name="notification_once_per_order",
            ),
            models.UniqueConstraint(
                fields=["customer", "kind", "channel"],
                condition=models.Q(order__isnull=True),
                name="notification_once_per_customer",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} by {self.channel} ({self.state})"


class Newsletter(models.Model):
    """A mail to customers who asked for news."""

    slug = models.SlugField(max_length=60, unique=True)
    subject = models.CharField(max_length=150)
    body = models.TextField()
    audience = models.PositiveIntegerField(help_text="How many subscribers receive it.")
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.slug
