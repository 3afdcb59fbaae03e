"""The population follows from the seed."""

from itertools import islice

from shop.demo import population


def test_the_same_seed_gives_the_same_people_and_things():
    assert list(population.customers(7, 300)) == list(population.customers(7, 300))
    assert list(population.products(7, 300)) == list(population.products(7, 300))
    assert list(population.customers(7, 300)) != list(population.customers(8, 300))


def test_more_customers_change_none_of_the_first_ones():
    assert list(islice(population.customers(7, 5_000), 100)) == list(population.customers(7, 100))


def test_numbers_addresses_and_skus_are_unique():
    customers = list(population.customers(7, 3_000))
    assert len({customer.number for customer in customers}) == 3_000
    assert len({customer.email for customer in customers}) == 3_000
    assert len({product.sku for product in population.products(7, 3_000)}) == 3_000


def test_a_few_customers_cannot_be_reached_or_cannot_pay():
    customers = list(population.customers(7, 3_000))
    assert 10 < sum(customer.email.endswith(".invalid") for customer in customers) < 90
    assert 10 < sum(customer.card_token.startswith("tok_declined") for customer in customers) < 90
    assert 3 < sum(not customer.phone.startswith("+") for customer in customers) < 60


def test_every_product_has_a_supplier_that_exists_and_a_price():
    known = {supplier.slug for supplier in population.suppliers(200)}
    for product in population.products(7, 200):
        assert product.supplier in known
        assert type(product.price_minor) is int
        assert product.price_minor > 0
