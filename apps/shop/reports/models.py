from django.db import models


class DailyTotal(models.Model):
    """What one day brought, in one currency."""

    day = models.DateField()
    currency = models.CharField(max_length=3)
    placed = models.PositiveIntegerField()
    confirmed = models.PositiveIntegerField()
    revenue_minor = models.BigIntegerField()
    refunded_minor = models.BigIntegerField()
    computed_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["day", "currency"], name="dailytotal_once")]

    def __str__(self) -> str:
        return f"{self.day} {self.currency}"


class ReportRequest(models.Model):
    """Somebody asked for a day's totals; the task's id is the request's."""

    task_id = models.UUIDField(primary_key=True)
    day = models.DateField()
    requested_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"{self.day} ({self.task_id})"
