"""The HTTP API of orders."""

from typing import Any
from uuid import UUID, uuid4

from django.http import HttpRequest, HttpResponse, JsonResponse

from shop.orders import services, workflow
from shop.orders.models import Order
from shop.orders.states import IllegalMoveError
from shop.web.api import BadRequestError, body, error, json_view, only, text, whole

KEY_HEADER = "Idempotency-Key"


@json_view("POST")
def place(request: HttpRequest) -> HttpResponse:
    """Place an order: 201 with it, or 200 if the idempotency key already placed it."""
    content = body(request)
    only(content, "customer", "lines")
    customer = text(content, "customer", 20)
    wanted = _lines(content.get("lines"))
    key = request.headers.get(KEY_HEADER) or uuid4().hex
    if len(key) > 100 or not key.isprintable():
        raise BadRequestError(f"{KEY_HEADER} must be 1 to 100 printable characters.")
    try:
        order, created = workflow.place_order(customer, wanted, key)
    except services.InvalidOrderError as problem:
        raise BadRequestError(str(problem)) from problem
    except services.KeyReusedError as problem:
        return error(409, str(problem))
    return JsonResponse(_public(order), status=201 if created else 200)


def _lines(lines: Any) -> list[services.Wanted]:
    if not isinstance(lines, list) or not 0 < len(lines) <= services.MAX_LINES:
        raise BadRequestError(f"lines must be a list of 1 to {services.MAX_LINES} objects.")
    wanted = []
    for line in lines:
        if not isinstance(line, dict):
            raise BadRequestError("Each line must be an object with sku and quantity.")
        only(line, "sku", "quantity")
        wanted.append(services.Wanted(text(line, "sku", 20), whole(line, "quantity", services.MAX_QUANTITY)))
    return wanted


@json_view("GET")
def read(_request: HttpRequest, order_id: UUID) -> HttpResponse:
    """Return an order."""
    order = Order.objects.filter(pk=order_id).first()
    if order is None:
        return error(404, "There is no such order.")
    content = _public(order)
    content["lines"] = [
        {"sku": line.product.sku, "quantity": line.quantity, "unit_price_minor": line.unit_price_minor}
        for line in order.lines.select_related("product").order_by("pk")
    ]
    return JsonResponse(content)


@json_view("POST")
def cancel(_request: HttpRequest, order_id: UUID) -> HttpResponse:
    """Cancel an order: 200 with it, 409 if it is too late."""
    try:
        workflow.cancel_order(order_id)
    except Order.DoesNotExist:
        return error(404, "There is no such order.")
    except IllegalMoveError as problem:
        return error(409, str(problem))
    return JsonResponse(_public(Order.objects.get(pk=order_id)))


def _public(order: Order) -> dict[str, Any]:
    return {
        "id": str(order.pk),
        "state": order.state,
        "reason": order.reason,
        "currency": order.currency,
        "total_minor": order.total_minor,
        "discount_minor": order.discount_minor,
        "shipping_minor": order.shipping_minor,
        "placed_at": order.placed_at.isoformat(),
    }
