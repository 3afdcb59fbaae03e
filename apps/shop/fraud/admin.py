from django.contrib import admin

from shop.fraud.models import Assessment, CustomerTotal
from shop.web.admin import ReadOnlyAdmin


@admin.register(CustomerTotal)
class CustomerTotalAdmin(ReadOnlyAdmin):
    list_display = ["customer", "total_minor", "orders"]
    list_select_related = ["customer"]


@admin.register(Assessment)
class AssessmentAdmin(ReadOnlyAdmin):
    list_display = ["order", "score", "refused", "assessed_at"]
    list_filter = ["refused"]
    list_select_related = ["order"]
