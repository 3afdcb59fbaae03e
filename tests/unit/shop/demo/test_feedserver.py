"""The suppliers' web server."""

from http import HTTPStatus

import pytest

from shop.catalog.feeds import MalformedFeedError, parse
from shop.demo.feedserver import NONSENSE, UNAVAILABLE, answer, moved


def test_a_feed_can_be_read_by_the_crawler():
    status, content = answer(7, 40, "/supplier-01.json", 0)
    assert status == HTTPStatus.OK
    offers = parse(content, "supplier-01")
    assert len(offers) == 10
    assert all(offer.price_minor > 0 for offer in offers)


def test_prices_move_with_time_and_by_five_percent_at_most():
    prices = {moved(10_000, "P00001", minute) for minute in range(50)}
    assert len(prices) > 10
    assert min(prices) >= 9_500
    assert max(prices) <= 10_500


def test_one_supplier_publishes_nonsense():
    _, content = answer(7, 40, f"/{NONSENSE}.json", 0)
    with pytest.raises(MalformedFeedError):
        parse(content, NONSENSE)


def test_one_supplier_is_sometimes_unavailable():
    assert {answer(7, 40, f"/{UNAVAILABLE}.json", minute)[0] for minute in range(4)} == {
        HTTPStatus.OK,
        HTTPStatus.SERVICE_UNAVAILABLE,
    }


@pytest.mark.parametrize("path", ["/", "/nobody.json", "/../supplier-01.json"])
def test_nothing_else_is_there(path):
    assert answer(7, 40, path, 0)[0] == HTTPStatus.NOT_FOUND
