from django.contrib import admin

from shop.journal.models import Dispatch, Run
from shop.web.admin import ReadOnlyAdmin


@admin.register(Dispatch)
class DispatchAdmin(ReadOnlyAdmin):
    list_display = ["task", "task_id", "retries", "queue", "at", "not_before"]
    list_filter = ["queue"]
    search_fields = ["task_id"]


@admin.register(Run)
class RunAdmin(ReadOnlyAdmin):
    list_display = ["task", "task_id", "retries", "side", "worker", "state", "started_at", "finished_at"]
    list_filter = ["side", "state"]
    search_fields = ["task_id"]
