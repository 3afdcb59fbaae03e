from django.contrib import admin

from shop.inventory.models import Reservation, Stock
from shop.web.admin import ReadOnlyAdmin


@admin.register(Stock)
class StockAdmin(ReadOnlyAdmin):
    list_display = ["product", "available"]
    list_select_related = ["product"]
    search_fields = ["product__sku"]


@admin.register(Reservation)
class ReservationAdmin(ReadOnlyAdmin):
    list_display = ["line", "stock", "quantity", "released", "reserved_at"]
    list_filter = ["released"]
