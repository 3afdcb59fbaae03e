"""
A web server with the suppliers' price feeds, for crawlers to read.

Prices move by a few percent with every passing minute, the same way for everybody. Like the feeds of real
suppliers, they are not always in order: one supplier publishes nonsense, one is sometimes unavailable.
"""

import json
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from shop.chance import per_mille
from shop.demo import population

NONSENSE = "supplier-02"
UNAVAILABLE = "supplier-03"


def feed(seed: int, products: int, slug: str, minute: int) -> dict[str, Any]:
    """Return a supplier's feed as it is in one minute; prices are in minor units."""
    return {
        "supplier": slug,
        "currency": "EUR",
        "items": [
            {"sku": product.sku, "price_minor": moved(product.price_minor, product.sku, minute)}
            for product in population.products(seed, products)
            if product.supplier == slug
        ],
    }


def moved(price_minor: int, sku: str, minute: int) -> int:
    """Return a price in one minute: up to 5% above or below `price_minor`, at least 1."""
    shift = per_mille("price", sku, minute) - 500
    return max(1, price_minor + price_minor * shift // 10_000)


def answer(seed: int, products: int, path: str, minute: int) -> tuple[HTTPStatus, bytes]:
    """Return the status and the body for a path such as /supplier-01.json."""
    slug = path.removeprefix("/").removesuffix(".json")
    if slug not in {supplier.slug for supplier in population.suppliers(products)}:
        return HTTPStatus.NOT_FOUND, b'{"error": "no such feed"}'
    if slug == UNAVAILABLE and minute % 2:
        return HTTPStatus.SERVICE_UNAVAILABLE, b'{"error": "come back later"}'
    content = json.dumps(feed(seed, products, slug, minute)).encode()
    return HTTPStatus.OK, content[: len(content) // 2] if slug == NONSENSE else content


def server(seed: int, products: int, host: str, port: int) -> ThreadingHTTPServer:
    """Return a server that is bound to its address; port 0 takes a free one."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, content = answer(seed, products, self.path, int(time.time() // 60))
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it
            """Say nothing: crawlers log what they read."""

    return ThreadingHTTPServer((host, port), Handler)
