"""Keep the catalogue in step with what suppliers ask."""

from collections.abc import Iterable

from django.db import transaction
from django.utils import timezone

from shop.catalog.feeds import Offer, fetch, parse
from shop.catalog.models import Product, Supplier


def suppliers_with_feeds() -> list[int]:
    """Return the ids of the suppliers whose feeds are to be read."""
    return list(Supplier.objects.filter(active=True).exclude(feed_url="").order_by("pk").values_list("pk", flat=True))


def crawl(supplier_id: int) -> int:
    """
    Read a supplier's feed and return how many prices it changed.

    Raise FeedUnavailableError or MalformedFeedError; no price changes then.
    """
    supplier = Supplier.objects.get(pk=supplier_id)
    return update_prices(supplier, parse(fetch(supplier.feed_url), supplier.slug))


def update_prices(supplier: Supplier, offers: Iterable[Offer]) -> int:
    """Take a supplier's prices over, of its own products only, and return how many changed."""
    asked = {offer.sku: offer for offer in offers}
    now = timezone.now()
    with transaction.atomic():
        known = Product.objects.select_for_update(no_key=True).filter(supplier=supplier, sku__in=asked).order_by("pk")
        changed = []
        for product in known:
            offer = asked[product.sku]
            if (product.price_minor, product.currency) != (offer.price_minor, offer.currency):
                product.price_minor, product.currency = offer.price_minor, offer.currency
                product.price_changed_at = now
                changed.append(product)
        Product.objects.bulk_update(changed, ["price_minor", "currency", "price_changed_at"], batch_size=500)
        Supplier.objects.filter(pk=supplier.pk).update(feed_read_at=now, feed_problem="")
    return len(changed)


def note_problem(supplier_id: int, problem: str) -> None:
    """Note why a supplier's feed could not be read."""
    Supplier.objects.filter(pk=supplier_id).update(feed_problem=problem[:200])
