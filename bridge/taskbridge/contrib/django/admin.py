"""Services and their way in Django's admin; the audit and waiting messages to look at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path

from taskbridge.contrib.django import steering
from taskbridge.contrib.django.models import DelayedMessage, OutboxMessage, ServiceFlag, Transition
from taskbridge.contrib.django.rules import words
from taskbridge.contrib.django.transition import from_document


class ReadOnlyAdmin(admin.ModelAdmin):
    """Shows rows of the bridge's database and changes none."""

    def get_queryset(self, request: HttpRequest) -> Any:
        """Return the rows of the database that TASKBRIDGE names."""
        alias = getattr(settings, "TASKBRIDGE", {}).get("database", "default")
        return super().get_queryset(request).using(alias)

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
    """Where every service of the settings stands, and the buttons that move it."""

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return whether somebody may look: also who may move, since nobody moves what they do not see."""
        return super().has_view_permission(request, obj) or steering.may_move(request)

    def has_module_permission(self, request: HttpRequest) -> bool:
        """Return whether the bridge's part of the admin is shown."""
        return super().has_module_permission(request) or steering.may_move(request)

    def get_urls(self) -> list[URLPattern]:
        """Put the confirmation of a transition before Django's own pages."""
        move = self.admin_site.admin_view(self.move_view)
        return [path("<str:service>/move/", move, name="taskbridge_serviceflag_move"), *super().get_urls()]

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:  # noqa: ARG002
        """Show every service, also those that were never moved."""
        return steering.services(self, request)

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",  # noqa: ARG002
        extra_context: Any = None,  # noqa: ARG002
    ) -> HttpResponse:
        """Show one service, its tasks, its audit, and what can be done."""
        return steering.service(self, request, object_id)

    def move_view(self, request: HttpRequest, service: str) -> HttpResponse:
        """Show what a transition would do; carry it out when that page is sent."""
        return steering.move(self, request, service)


@admin.register(Transition)
class TransitionAdmin(ReadOnlyAdmin):
    """Who moved what, when and why; rows are only added: triggers refuse to change or delete one."""

    list_display = ("at", "action", "service", "task", "way", "who", "why", "verdict_state", "override")
    list_filter = ("service", "action", "override", ("at", admin.DateFieldListFilter))
    search_fields = ("who", "why", "task", "request_id")
    date_hierarchy = "at"
    show_full_result_count = False

    @admin.display(description="before → after")
    def way(self, row: Transition) -> str:
        """Return both stages."""
        before, after = (words(from_document(row.service, row.task, one)) for one in (row.before, row.after))
        return f"{before} → {after}"

    @admin.display(description="verdict")
    def verdict_state(self, row: Transition) -> str:
        """Return what the evidence said."""
        return row.verdict["state"] if row.verdict else ""


class PendingAdmin(ReadOnlyAdmin):
    """Messages that wait; bodies and headers are bytes and are not shown."""

    list_filter: Sequence[Any] = ("service",)
    search_fields = ("task", "task_id__exact", "key__exact")
    exclude = ("body", "headers", "properties")
    show_full_result_count = False


@admin.register(DelayedMessage)
class DelayedMessageAdmin(PendingAdmin):
    """Messages that are not due yet."""

    list_display = ("due", "service", "task", "task_id", "key", "attempts")


@admin.register(OutboxMessage)
class OutboxMessageAdmin(PendingAdmin):
    """Messages that were not published, or that Kafka may or may not have."""

    list_display = ("created_at", "service", "task", "task_id", "key", "road", "attempts")
    list_filter = ("service", "road")
