"""Fill the database with the rehearsal's population; what is there already stays as it is."""

from dataclasses import dataclass

from django.db import transaction

from shop.catalog.models import Product, Supplier
from shop.demo import population
from shop.fraud.models import CustomerTotal
from shop.inventory.models import Stock
from shop.orders.models import Customer

BATCH = 2_000


@dataclass(frozen=True)
class Seeded:
    """How many rows there are now."""

    suppliers: int
    products: int
    customers: int


def population_size() -> tuple[int, int]:
    """Return how many customers and products there are of those that a seed makes."""
    return (
        Customer.objects.filter(number__regex=r"^C[0-9]{6}$").count(),
        Product.objects.filter(sku__regex=r"^P[0-9]{5}$").count(),
    )


def fill(seed: int, customers: int, products: int, feeds_url: str) -> Seeded:
    """Make sure that the population is there and that suppliers' feeds are looked for at `feeds_url`."""
    with transaction.atomic():
        _suppliers(products, feeds_url)
        _products(seed, products)
        _customers(seed, customers)
    return Seeded(Supplier.objects.count(), Product.objects.count(), Customer.objects.count())


def _suppliers(products: int, feeds_url: str) -> None:
    Supplier.objects.bulk_create(
        [
            Supplier(slug=supplier.slug, name=supplier.name, feed_url=f"{feeds_url.rstrip('/')}/{supplier.slug}.json")
            for supplier in population.suppliers(products)
        ],
        update_conflicts=True,
        unique_fields=["slug"],
        update_fields=["feed_url"],
    )


def _products(seed: int, count: int) -> None:
    suppliers = dict(Supplier.objects.values_list("slug", "pk"))
    wanted = list(population.products(seed, count))
    Product.objects.bulk_create(
        [
            Product(
                sku=product.sku,
                name=product.name,
                supplier_id=suppliers[product.supplier],
                price_minor=product.price_minor,
                active=product.active,
            )
            for product in wanted
        ],
        batch_size=BATCH,
        ignore_conflicts=True,
    )
    ids = dict(Product.objects.values_list("sku", "pk"))
    Stock.objects.bulk_create(
        [Stock(product_id=ids[product.sku], available=product.stock) for product in wanted],
        batch_size=BATCH,
        ignore_conflicts=True,
    )


def _customers(seed: int, count: int) -> None:
    Customer.objects.bulk_create(
        [
            Customer(
                number=customer.number,
                name=customer.name,
                email=customer.email,
                phone=customer.phone,
                card_token=customer.card_token,
                blocked=customer.blocked,
                subscribed=customer.subscribed,
            )
            for customer in population.customers(seed, count)
        ],
        batch_size=BATCH,
        ignore_conflicts=True,
    )
    CustomerTotal.objects.bulk_create(
        [CustomerTotal(customer_id=pk) for pk in Customer.objects.values_list("pk", flat=True)],
        batch_size=BATCH,
        ignore_conflicts=True,
    )
