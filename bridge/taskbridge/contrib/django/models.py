"""
Tables of the bridge.

The bridge itself reads and writes them by SQL over connections of its own (`taskbridge.contrib.django.session`), never
inside the caller's transaction; the models are there for migrations and for the admin.
"""

from __future__ import annotations

from django.db import models


class ServiceFlag(models.Model):
    """The stage of one service: the authority for where its messages go."""

    service = models.CharField(max_length=63, primary_key=True)
    stage = models.CharField(max_length=16)
    basis_points = models.PositiveSmallIntegerField(default=0)
    epoch = models.BigIntegerField(default=0)
    version = models.BigIntegerField(unique=True)
    changed_at = models.DateTimeField()

    class Meta:
        db_table = "taskbridge_service_flag"
        ordering = ("service",)

    def __str__(self) -> str:
        return f"{self.service}: {self.stage}"


class Transition(models.Model):
    """
    One change of a flag: who, why, and the flag before and after. Rows are only ever added.

    The id is the version of the flag that the transition wrote.
    """

    service = models.CharField(max_length=63)
    at = models.DateTimeField()
    who = models.TextField()
    why = models.TextField(blank=True)
    before = models.JSONField()
    after = models.JSONField()

    class Meta:
        db_table = "taskbridge_transition"
        ordering = ("-id",)
        indexes = (models.Index(fields=("service", "-id"), name="taskbridge_transition_service"),)

    def __str__(self) -> str:
        return f"{self.service} at {self.at:%Y-%m-%d %H:%M:%S %Z}"


class PendingRow(models.Model):
    """
    A message that waits, byte for byte as it was serialized at dispatch.

    `shard` is a hash of service and key: the relay works on a shard under a lock, which keeps the order of a key.
    `attempts` counts the publishes of which nobody knows how they ended.
    """

    id = models.BigAutoField(primary_key=True)
    service = models.CharField(max_length=63)
    key = models.TextField()
    shard = models.SmallIntegerField()
    task = models.TextField()
    task_id = models.TextField()
    body = models.BinaryField()
    content_type = models.TextField()
    content_encoding = models.TextField()
    headers = models.BinaryField()
    properties = models.BinaryField()
    epoch = models.BigIntegerField()
    producer = models.TextField()
    seq = models.BigIntegerField()
    attempts = models.PositiveSmallIntegerField(default=0)
    created_at = models.DateTimeField()

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return f"{self.task}[{self.task_id}]"


class DelayedMessage(PendingRow):
    """A message that is not due yet: an eta, a countdown, the backoff of a retry."""

    due = models.DateTimeField()

    class Meta:
        db_table = "taskbridge_delayed"
        ordering = ("due", "id")
        indexes = (models.Index(fields=("due", "id"), name="taskbridge_delayed_due"),)


class OutboxMessage(PendingRow):
    """A message for Kafka of which it is not known whether Kafka has it."""

    class Meta:
        db_table = "taskbridge_outbox"
        ordering = ("id",)
