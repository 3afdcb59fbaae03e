from django.contrib import admin

from shop.notifications.models import Newsletter, Notification
from shop.web.admin import ReadOnlyAdmin


@admin.register(Notification)
class NotificationAdmin(ReadOnlyAdmin):
    list_display = ["kind", "channel", "recipient", "state", "attempts", "problem", "created_at", "finished_at"]
    list_filter = ["channel", "state"]
    search_fields = ["recipient", "order__id"]


@admin.register(Newsletter)
class NewsletterAdmin(ReadOnlyAdmin):
    list_display = ["slug", "subject", "audience", "created_at"]
