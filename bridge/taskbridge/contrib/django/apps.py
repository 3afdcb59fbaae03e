"""The Django application."""

from django.apps import AppConfig


class TaskbridgeConfig(AppConfig):
    """Flags, audit and pending messages."""

    name = "taskbridge.contrib.django"
    label = "taskbridge"
    verbose_name = "Task bridge"
    default_auto_field = "django.db.models.BigAutoField"
