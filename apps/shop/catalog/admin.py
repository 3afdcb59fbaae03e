from django.contrib import admin

from shop.catalog.models import Product, Supplier


@admin.register(Supplier)
class SupplierAdmin(admin.ModelAdmin):
    list_display = ["slug", "name", "active", "feed_url", "feed_read_at", "feed_problem"]
    readonly_fields = ["feed_read_at", "feed_problem"]
    search_fields = ["slug", "name"]


@admin.register(Product)
class ProductAdmin(admin.ModelAdmin):
    list_display = ["sku", "name", "supplier", "price_minor", "currency", "active"]
    list_filter = ["active", "currency"]
    list_select_related = ["supplier"]
    search_fields = ["sku", "name"]
