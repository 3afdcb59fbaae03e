"""
An independent record of what was dispatched and what ran.

Neither table has a unique constraint: a task that was dispatched or ran twice must show as two rows.
"""

from django.db import models


class Dispatch(models.Model):
    """One message that was published."""

    task_id = models.CharField(max_length=64)
    retries = models.PositiveIntegerField()
    replaced_task_nesting = models.PositiveIntegerField()
    task = models.CharField(max_length=150)
    queue = models.CharField(max_length=60)
    at = models.DateTimeField()
    not_before = models.DateTimeField(null=True)

    class Meta:
        indexes = [models.Index(fields=["task_id"], name="dispatch_task_id")]

    def __str__(self) -> str:
        return f"{self.task} {self.task_id}"


class Run(models.Model):
    """One start of a task; without `finished_at` it is still running, or its process died."""

    task_id = models.CharField(max_length=64)
    retries = models.PositiveIntegerField()
    replaced_task_nesting = models.PositiveIntegerField()
    task = models.CharField(max_length=150)
    side = models.CharField(max_length=10)
    worker = models.CharField(max_length=120)
    pid = models.PositiveIntegerField()
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True)
    state = models.CharField(max_length=10, blank=True)

    class Meta:
        indexes = [models.Index(fields=["task_id"], name="run_task_id")]

    def __str__(self) -> str:
        return f"{self.task} {self.task_id} ({self.side})"
