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
    hold = models.BooleanField(default=False)
    fence = models.JSONField(null=True)

    class Meta:
        db_table = "taskbridge_service_flag"
        ordering = ("service",)
        permissions = (("move_service", "Can move services between stages"),)

    def __str__(self) -> str:
        return f"{self.service}: {self.stage}"


class TaskFlag(models.Model):
    """The stage of one task, which takes precedence over its service's until it is cleared."""

    id = models.BigAutoField(primary_key=True)
    service = models.CharField(max_length=63)
    task = models.TextField()
    stage = models.CharField(max_length=16)
    basis_points = models.PositiveSmallIntegerField(default=0)
    epoch = models.BigIntegerField(default=0)
    version = models.BigIntegerField(unique=True)
    changed_at = models.DateTimeField()
    hold = models.BooleanField(default=False)
    cleared = models.BooleanField(default=False)

    class Meta:
        db_table = "taskbridge_task_flag"
        ordering = ("service", "task")
        constraints = (models.UniqueConstraint(fields=("service", "task"), name="taskbridge_task_flag_task"),)

    def __str__(self) -> str:
        return f"{self.task}: {self.stage}"


class Transition(models.Model):
    """
    One change of a flag: who, why, and the flag before and after. Rows are only ever added.

    The id is the version of the flag that the transition wrote. The database itself refuses to change or delete a row.
    `verdict` is what was known when it was made, `override` says that it was made against that. A `request_id` is the
    asker's own, for a request that may reach the service twice and must be carried out once.
    """

    service = models.CharField(max_length=63)
    task = models.TextField(blank=True, default="")
    action = models.CharField(max_length=16, default="move")
    override = models.BooleanField(default=False)
    verdict = models.JSONField(null=True)
    request_id = models.TextField(blank=True, default="")
    at = models.DateTimeField()
    who = models.TextField()
    why = models.TextField(blank=True)
    before = models.JSONField()
    after = models.JSONField()

    class Meta:
        db_table = "taskbridge_transition"
        ordering = ("-id",)
        indexes = (models.Index(fields=("service", "-id"), name="taskbridge_transition_service"),)
        constraints = (
            models.UniqueConstraint(
                fields=("service", "request_id"),
                condition=~models.Q(request_id=""),
                name="taskbridge_transition_request",
            ),
        )

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

    road = models.CharField(max_length=16, default="any")

    class Meta:
        db_table = "taskbridge_delayed"
        ordering = ("due", "id")
        indexes = (
            models.Index(fields=("due", "id"), name="taskbridge_delayed_due"),
            models.Index(fields=("task_id",), name="taskbridge_delayed_task_id"),
        )


class OutboxMessage(PendingRow):
    """
    A message that was not published, or of which it is not known whether it was.

    `road` is `kafka` when it may go there only, `any` when the flag decides at the moment of sending, `held` while its
    key changes side, and `kafka-again` or `celery-again` once the relay does not know whether that side has it. A row
    with no `attempts` was certainly never published.
    """

    road = models.CharField(max_length=16, default="kafka")

    class Meta:
        db_table = "taskbridge_outbox"
        ordering = ("id",)
        indexes = (
            models.Index(fields=("service", "shard"), name="taskbridge_outbox_shard"),
            models.Index(fields=("service", "key"), name="taskbridge_outbox_held", condition=models.Q(road="held")),
        )


class Sending(models.Model):
    """
    Rows of `table` that a relay is about to publish by `road`, noted before it does and removed with them.

    A note that is left says that its relay died, and that some of the rows may have arrived. `shards` and `ids` are
    PostgreSQL's array literals.
    """

    id = models.BigAutoField(primary_key=True)
    table = models.CharField(max_length=8)
    road = models.CharField(max_length=8)
    shards = models.TextField()
    ids = models.TextField()

    class Meta:
        db_table = "taskbridge_sending"
        ordering = ("id",)

    def __str__(self) -> str:
        return f"{self.table} to {self.road}"


class Execution(models.Model):
    """
    The ledger of tasks that run once.

    `token` grows with every claim, so that whoever lost his lease cannot finish. `outcome` is empty while the task
    runs; `result` holds what is needed to repeat the end of it, as JSON.
    """

    id = models.BigAutoField(primary_key=True)
    task_id = models.TextField()
    retries = models.IntegerField()
    nesting = models.IntegerField()
    task = models.TextField()
    token = models.BigIntegerField()
    leased_until = models.DateTimeField()
    outcome = models.CharField(max_length=16, blank=True, default="")
    result = models.BinaryField(null=True)
    created_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "taskbridge_execution"
        ordering = ("id",)
        constraints = (
            models.UniqueConstraint(fields=("task_id", "retries", "nesting"), name="taskbridge_execution_identity"),
        )
        indexes = (models.Index(fields=("finished_at",), name="taskbridge_execution_finished"),)

    def __str__(self) -> str:
        return f"{self.task}[{self.task_id}]"
