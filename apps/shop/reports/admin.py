from django.contrib import admin

from shop.reports.models import DailyTotal
from shop.web.admin import ReadOnlyAdmin


@admin.register(DailyTotal)
class DailyTotalAdmin(ReadOnlyAdmin):
    list_display = ["day", "currency", "placed", "confirmed", "revenue_minor", "refunded_minor", "computed_at"]
    list_filter = ["currency"]
