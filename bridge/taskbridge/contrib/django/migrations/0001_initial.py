"""Flags, audit, delayed messages and outbox."""

from django.db import migrations, models


class Migration(migrations.Migration):
    """Create the tables."""

    initial = True

    operations = [
        migrations.CreateModel(
            name="OutboxMessage",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("service", models.CharField(max_length=63)),
                ("key", models.TextField()),
                ("shard", models.SmallIntegerField()),
                ("task", models.TextField()),
                ("task_id", models.TextField()),
                ("body", models.BinaryField()),
                ("content_type", models.TextField()),
                ("content_encoding", models.TextField()),
                ("headers", models.BinaryField()),
                ("properties", models.BinaryField()),
                ("epoch", models.BigIntegerField()),
                ("producer", models.TextField()),
                ("seq", models.BigIntegerField()),
                ("attempts", models.PositiveSmallIntegerField(default=0)),
                ("created_at", models.DateTimeField()),
            ],
            options={
                "db_table": "taskbridge_outbox",
                "ordering": ("id",),
            },
        ),
        migrations.CreateModel(
            name="ServiceFlag",
            fields=[
                ("service", models.CharField(max_length=63, primary_key=True, serialize=False)),
                ("stage", models.CharField(max_length=16)),
                ("basis_points", models.PositiveSmallIntegerField(default=0)),
                ("epoch", models.BigIntegerField(default=0)),
                ("version", models.BigIntegerField(unique=True)),
                ("changed_at", models.DateTimeField()),
            ],
            options={
                "db_table": "taskbridge_service_flag",
                "ordering": ("service",),
            },
        ),
        migrations.CreateModel(
            name="DelayedMessage",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("service", models.CharField(max_length=63)),
                ("key", models.TextField()),
                ("shard", models.SmallIntegerField()),
                ("task", models.TextField()),
                ("task_id", models.TextField()),
                ("body", models.BinaryField()),
                ("content_type", models.TextField()),
                ("content_encoding", models.TextField()),
                ("headers", models.BinaryField()),
                ("properties", models.BinaryField()),
                ("epoch", models.BigIntegerField()),
                ("producer", models.TextField()),
                ("seq", models.BigIntegerField()),
                ("attempts", models.PositiveSmallIntegerField(default=0)),
                ("created_at", models.DateTimeField()),
                ("due", models.DateTimeField()),
            ],
            options={
                "db_table": "taskbridge_delayed",
                "ordering": ("due", "id"),
                "indexes": [models.Index(fields=["due", "id"], name="taskbridge_delayed_due")],
            },
        ),
        migrations.CreateModel(
            name="Transition",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("service", models.CharField(max_length=63)),
                ("at", models.DateTimeField()),
                ("who", models.TextField()),
                ("why", models.TextField(blank=True)),
                ("before", models.JSONField()),
                ("after", models.JSONField()),
            ],
            options={
                "db_table": "taskbridge_transition",
                "ordering": ("-id",),
                "indexes": [models.Index(fields=["service", "-id"], name="taskbridge_transition_service")],
            },
        ),
    ]
