from typing import Any

from django.contrib import admin

from shop.orders.models import Customer, Order, OrderLine


@admin.register(Customer)
class CustomerAdmin(admin.ModelAdmin):
    list_display = ["number", "name", "email", "blocked", "subscribed"]
    list_filter = ["blocked", "subscribed"]
    search_fields = ["number", "name", "email"]
    exclude = ["card_token"]


class OrderLineInline(admin.TabularInline):
    model = OrderLine
    extra = 0
    raw_id_fields = ["product"]

    def has_change_permission(self, *_: Any) -> bool:
        """Lines stay as they were ordered."""
        return False

    has_add_permission = has_change_permission
    has_delete_permission = has_change_permission


@admin.register(Order)
class OrderAdmin(admin.ModelAdmin):
    list_display = ["id", "customer", "state", "total_minor", "currency", "placed_at", "reason"]
    list_filter = ["state", "currency"]
    list_select_related = ["customer"]
    search_fields = ["id", "customer__number", "idempotency_key"]
    inlines = [OrderLineInline]

    def has_add_permission(self, *_: Any) -> bool:
        """Orders come from customers alone."""
        return False

    def has_delete_permission(self, *_: Any) -> bool:
        """Orders are kept."""
        return False

    def get_readonly_fields(self, *_: Any) -> list[str]:
        """Everything: an order changes by its workflow."""
        return [field.name for field in Order._meta.fields]
