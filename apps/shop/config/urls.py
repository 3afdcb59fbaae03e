"""The shop's URLs; /healthz and /readyz are answered by a middleware."""

from django.contrib import admin
from django.urls import include, path

from shop.catalog import views as catalog
from shop.notifications import views as notifications
from shop.orders import views as orders
from shop.reports import views as reports

urlpatterns = [
    path("admin/", admin.site.urls),
    path("bridge/api/", include("taskbridge.contrib.django.api.urls")),
    path("api/orders/", orders.place),
    path("api/orders/<uuid:order_id>/", orders.read),
    path("api/orders/<uuid:order_id>/cancel/", orders.cancel),
    path("api/products/", catalog.products),
    path("api/products/<str:sku>/restock/", catalog.restock),
    path("api/newsletters/", notifications.newsletters),
    path("api/reports/", reports.create),
    path("api/reports/<uuid:report_id>/", reports.read),
]
