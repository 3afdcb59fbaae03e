"""The HTTP API of the catalogue."""

from django.http import HttpRequest, HttpResponse, JsonResponse

from shop.catalog.models import Product
from shop.inventory.tasks import restock as restock_task
from shop.web.api import BadRequestError, body, error, json_view, only, whole

PAGE = 100


@json_view("GET")
def products(request: HttpRequest) -> HttpResponse:
    """Return products by SKU, a page at a time; `?after=SKU` asks for the next page."""
    after = request.GET.get("after", "")
    if len(after) > 20 or "\x00" in after:
        raise BadRequestError("after must be the SKU that the page before ended with.")
    found = list(Product.objects.filter(active=True, sku__gt=after).select_related("stock").order_by("sku")[: PAGE + 1])
    page = found[:PAGE]
    return JsonResponse(
        {
            "products": [
                {
                    "sku": product.sku,
                    "name": product.name,
                    "price_minor": product.price_minor,
                    "currency": product.currency,
                    "available": product.stock.available if hasattr(product, "stock") else 0,
                }
                for product in page
            ],
            "next_after": page[-1].sku if len(found) > PAGE else None,
        }
    )


@json_view("POST")
def restock(request: HttpRequest, sku: str) -> HttpResponse:
    """Have pieces added to a product's stock: 202."""
    content = body(request)
    only(content, "quantity")
    quantity = whole(content, "quantity", 1_000_000)
    if not Product.objects.filter(sku=sku).exists():
        return error(404, "There is no such product.")
    restock_task.delay(sku, quantity)
    return JsonResponse({"sku": sku, "quantity": quantity}, status=202)
