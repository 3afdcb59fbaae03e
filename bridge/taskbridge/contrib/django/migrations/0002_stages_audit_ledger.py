"""All stages, flags of single tasks, an audit that cannot be changed, held messages, and the ledger."""

from typing import Any

from django.db import migrations, models

DEFAULTS = (
    ("taskbridge_delayed", "road", "'any'"),
    ("taskbridge_outbox", "road", "'kafka'"),
    ("taskbridge_service_flag", "hold", "false"),
    ("taskbridge_transition", "action", "'move'"),
    ("taskbridge_transition", "override", "false"),
    ("taskbridge_transition", "request_id", "''"),
    ("taskbridge_transition", "task", "''"),
)
"""New columns that processes of the release before do not know and so leave out: the database fills them in."""

APPEND_ONLY = """
CREATE FUNCTION taskbridge_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'TRUNCATE'
        AND (left(current_database(), 5) = 'test_' OR NOT EXISTS (SELECT FROM taskbridge_transition)) THEN
        RETURN NULL;
    END IF;
    RAISE EXCEPTION 'taskbridge_transition is an audit: its rows are never changed or deleted'
        USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER taskbridge_transition_append_only BEFORE UPDATE OR DELETE ON taskbridge_transition
    FOR EACH ROW EXECUTE FUNCTION taskbridge_refuse_change();
CREATE TRIGGER taskbridge_transition_no_truncate BEFORE TRUNCATE ON taskbridge_transition
    FOR EACH STATEMENT EXECUTE FUNCTION taskbridge_refuse_change();
"""
"""Django's TransactionTestCase truncates all tables: what it names `test_...` may be emptied, and an empty table too."""

REVERSE = """
DROP TRIGGER IF EXISTS taskbridge_transition_no_truncate ON taskbridge_transition;
DROP TRIGGER IF EXISTS taskbridge_transition_append_only ON taskbridge_transition;
DROP FUNCTION IF EXISTS taskbridge_refuse_change();
"""


def protect(apps: Any, schema_editor: Any) -> None:  # noqa: ARG001
    """Set the defaults and make the audit append-only; other databases than PostgreSQL only hold unused tables."""
    if schema_editor.connection.vendor != "postgresql":
        return
    for table, column, default in DEFAULTS:
        schema_editor.execute(f"ALTER TABLE {table} ALTER COLUMN {column} SET DEFAULT {default}")
    schema_editor.execute(APPEND_ONLY)


def unprotect(apps: Any, schema_editor: Any) -> None:  # noqa: ARG001
    """Let the audit be changed again."""
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(REVERSE)


class Migration(migrations.Migration):
    """Additive: processes of the release before go on working while this is applied."""

    dependencies = [
        ("taskbridge", "0001_initial"),
    ]

    operations = [
        migrations.CreateModel(
            name="Execution",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("task_id", models.TextField()),
                ("retries", models.IntegerField()),
                ("nesting", models.IntegerField()),
                ("task", models.TextField()),
                ("token", models.BigIntegerField()),
                ("leased_until", models.DateTimeField()),
                ("outcome", models.CharField(blank=True, default="", max_length=16)),
                ("result", models.BinaryField(null=True)),
                ("created_at", models.DateTimeField()),
                ("finished_at", models.DateTimeField(null=True)),
            ],
            options={
                "db_table": "taskbridge_execution",
                "ordering": ("id",),
            },
        ),
        migrations.CreateModel(
            name="Sending",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("table", models.CharField(max_length=8)),
                ("road", models.CharField(max_length=8)),
                ("shards", models.TextField()),
                ("ids", models.TextField()),
            ],
            options={
                "db_table": "taskbridge_sending",
                "ordering": ("id",),
            },
        ),
        migrations.CreateModel(
            name="TaskFlag",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("service", models.CharField(max_length=63)),
                ("task", models.TextField()),
                ("stage", models.CharField(max_length=16)),
                ("basis_points", models.PositiveSmallIntegerField(default=0)),
                ("epoch", models.BigIntegerField(default=0)),
                ("version", models.BigIntegerField(unique=True)),
                ("changed_at", models.DateTimeField()),
                ("hold", models.BooleanField(default=False)),
                ("cleared", models.BooleanField(default=False)),
            ],
            options={
                "db_table": "taskbridge_task_flag",
                "ordering": ("service", "task"),
            },
        ),
        migrations.AlterModelOptions(
            name="serviceflag",
            options={"ordering": ("service",), "permissions": (("move_service", "Can move services between stages"),)},
        ),
        migrations.AddField(
            model_name="outboxmessage",
            name="road",
            field=models.CharField(default="kafka", max_length=16),
        ),
        migrations.AddField(
            model_name="delayedmessage",
            name="road",
            field=models.CharField(default="any", max_length=16),
        ),
        migrations.AddField(
            model_name="serviceflag",
            name="fence",
            field=models.JSONField(null=True),
        ),
        migrations.AddField(
            model_name="serviceflag",
            name="hold",
            field=models.BooleanField(default=False),
        ),
        migrations.AddField(
            model_name="transition",
            name="action",
            field=models.CharField(default="move", max_length=16),
        ),
        migrations.AddField(
            model_name="transition",
            name="override",
            field=models.BooleanField(default=False),
        ),
        migrations.AddField(
            model_name="transition",
            name="request_id",
            field=models.TextField(blank=True, default=""),
        ),
        migrations.AddField(
            model_name="transition",
            name="task",
            field=models.TextField(blank=True, default=""),
        ),
        migrations.AddField(
            model_name="transition",
            name="verdict",
            field=models.JSONField(null=True),
        ),
        migrations.AddIndex(
            model_name="outboxmessage",
            index=models.Index(fields=["service", "shard"], name="taskbridge_outbox_shard"),
        ),
        migrations.AddIndex(
            model_name="outboxmessage",
            index=models.Index(
                fields=["service", "key"], name="taskbridge_outbox_held", condition=models.Q(("road", "held"))
            ),
        ),
        migrations.AddIndex(
            model_name="delayedmessage",
            index=models.Index(fields=["task_id"], name="taskbridge_delayed_task_id"),
        ),
        migrations.AddIndex(
            model_name="execution",
            index=models.Index(fields=["finished_at"], name="taskbridge_execution_finished"),
        ),
        migrations.AddConstraint(
            model_name="execution",
            constraint=models.UniqueConstraint(
                fields=("task_id", "retries", "nesting"), name="taskbridge_execution_identity"
            ),
        ),
        migrations.AddConstraint(
            model_name="taskflag",
            constraint=models.UniqueConstraint(fields=("service", "task"), name="taskbridge_task_flag_task"),
        ),
        migrations.AddConstraint(
            model_name="transition",
            constraint=models.UniqueConstraint(
                fields=("service", "request_id"),
                condition=~models.Q(request_id=""),
                name="taskbridge_transition_request",
            ),
        ),
        migrations.RunPython(protect, unprotect),
    ]
