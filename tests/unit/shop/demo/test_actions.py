"""What people do follows from the seed."""

from collections import Counter
from itertools import islice

from shop.demo.actions import BadOrder, CancelOrder, PlaceOrder, Restock, plan


def actions(seed, count=3_000, customers=50, products=20):
    return list(islice(plan(seed, customers, products), count))


def test_the_same_seed_gives_the_same_actions():
    assert actions(7) == actions(7)


def test_another_seed_gives_others():
    assert actions(7) != actions(8)


def test_most_actions_place_orders_and_every_kind_occurs():
    kinds = Counter(type(action).__name__ for action in actions(7))
    assert kinds["PlaceOrder"] / 3_000 > 0.8
    assert set(kinds) == {"PlaceOrder", "CancelOrder", "Restock", "SendNewsletter", "BadOrder"}


def test_orders_are_numbered_without_gaps():
    serials = [action.serial for action in actions(7) if isinstance(action, PlaceOrder)]
    assert serials == list(range(len(serials)))


def test_only_orders_that_were_placed_are_cancelled_and_each_once():
    placed, cancelled = set(), set()
    for action in actions(7):
        if isinstance(action, PlaceOrder):
            placed.add(action.serial)
        elif isinstance(action, CancelOrder):
            assert action.serial in placed - cancelled
            cancelled.add(action.serial)
    assert cancelled


def test_orders_are_for_known_customers_and_products():
    known = {f"C{number:06d}" for number in range(1, 51)}
    skus = {f"P{number:05d}" for number in range(1, 21)}
    for action in actions(7):
        if isinstance(action, PlaceOrder):
            assert action.customer in known
            assert {sku for sku, _ in action.lines} <= skus
            assert len({sku for sku, _ in action.lines}) == len(action.lines)
        elif isinstance(action, Restock):
            assert action.sku in skus


def test_every_bad_order_has_a_mistake():
    skus = {f"P{number:05d}" for number in range(1, 21)}
    for action in actions(7):
        if isinstance(action, BadOrder):
            ordered = [sku for sku, _ in action.lines]
            assert (
                action.customer == "C999999999"
                or not ordered
                or len(set(ordered)) < len(ordered)
                or not set(ordered) <= skus
                or any(quantity < 1 for _, quantity in action.lines)
            )


def test_one_product_is_enough():
    assert all(len(action.lines) == 1 for action in actions(7, 200, 1, 1) if isinstance(action, PlaceOrder))
