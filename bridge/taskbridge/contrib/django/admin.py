"""Read-only views of flags, audit and pending messages."""

from __future__ import annotations

from typing import Any

from django.contrib import admin

from taskbridge.contrib.django.models import DelayedMessage, OutboxMessage, ServiceFlag, Transition


class ReadOnlyAdmin(admin.ModelAdmin):
    """Shows rows and changes none: a flag is moved by a transition, which checks and records."""

    def has_add_permission(self, *_: Any) -> bool:
        """Return False."""
        return False

    def has_change_permission(self, *_: Any) -> bool:
        """Return False."""
        return False

    def has_delete_permission(self, *_: Any) -> bool:
        """Return False."""
        return False


@admin.register(ServiceFlag)
class ServiceFlagAdmin(ReadOnlyAdmin):
    """Where each service stands."""

    list_display = ("service", "stage", "percent", "epoch", "changed_at")

    @admin.display(description="% of keys on Kafka")
    def percent(self, row: ServiceFlag) -> str:
        """Return the percentage in `live`, and nothing elsewhere."""
        return f"{row.basis_points / 100:g}" if row.basis_points else ""


@admin.register(Transition)
class TransitionAdmin(ReadOnlyAdmin):
    """Who moved what, when and why."""

    list_display = ("at", "service", "who", "why", "before", "after")
    list_filter = ("service",)
    search_fields = ("who", "why")
    show_full_result_count = False


class PendingAdmin(ReadOnlyAdmin):
    """Messages that wait; bodies and headers are bytes and are not shown."""

    list_filter = ("service",)
    search_fields = ("task", "task_id__exact", "key__exact")
    exclude = ("body", "headers", "properties")
    show_full_result_count = False


@admin.register(DelayedMessage)
class DelayedMessageAdmin(PendingAdmin):
    """Messages that are not due yet."""

    list_display = ("due", "service", "task", "task_id", "key", "attempts")


@admin.register(OutboxMessage)
class OutboxMessageAdmin(PendingAdmin):
    """Messages that Kafka may or may not have."""

    list_display = ("created_at", "service", "task", "task_id", "key", "attempts")
