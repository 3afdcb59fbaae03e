from django.contrib import admin

from shop.payments.models import Payment
from shop.web.admin import ReadOnlyAdmin


@admin.register(Payment)
class PaymentAdmin(ReadOnlyAdmin):
    list_display = ["order", "amount_minor", "currency", "state", "attempts", "authorized_at", "refunded_at"]
    list_filter = ["state", "currency"]
    list_select_related = ["order"]
