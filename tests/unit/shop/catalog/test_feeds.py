"""Price feeds: fetched and checked."""

import json

import httpx
import pytest

from shop.catalog import feeds
from shop.catalog.feeds import FeedUnavailableError, MalformedFeedError, Offer, fetch, parse


def client(handler):
    return httpx.Client(transport=httpx.MockTransport(handler))


def feed(**changes):
    item = {"sku": "P1", "price_minor": 990}
    return json.dumps({"supplier": "acme", "currency": "EUR", "items": [item], **changes}).encode()


def test_a_feed_is_fetched():
    assert fetch("http://feeds.example/acme.json", client=client(lambda _: httpx.Response(200, content=b"[]"))) == b"[]"


@pytest.mark.parametrize("status", [302, 404, 500, 503])
def test_any_other_answer_means_that_the_feed_is_unavailable(status):
    with pytest.raises(FeedUnavailableError, match=str(status)):
        fetch("http://feeds.example/", client=client(lambda _: httpx.Response(status)))


def test_a_server_out_of_reach_means_that_the_feed_is_unavailable():
    def refuse(request):
        raise httpx.ConnectTimeout("timed out", request=request)

    with pytest.raises(FeedUnavailableError, match="timed out"):
        fetch("http://feeds.example/", client=client(refuse))


def test_a_feed_that_is_too_long_is_not_read_to_its_end(monkeypatch):
    monkeypatch.setattr(feeds, "SIZE_LIMIT", 1_000)
    sent = []

    def endless():
        while len(sent) < 1_000:
            sent.append(100)
            yield b"x" * 100

    with pytest.raises(MalformedFeedError, match="longer than 1000 bytes"):
        fetch("http://feeds.example/", client=client(lambda _: httpx.Response(200, content=endless())))
    assert sum(sent) < 5_000


def test_offers_are_read():
    assert parse(feed(), "acme") == [Offer("P1", 990, "EUR")]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b'{"supplier": "acme", "items": [', "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[]", "not an object"),
        (feed(items=None), "not an object"),
        (feed(supplier="other"), "of 'other', not of 'acme'"),
        (feed(currency="euro"), "currency"),
        (feed(items=["P1"]), "Item 0 of the feed names no product"),
        (feed(items=[{"sku": 1, "price_minor": 1}]), "Item 0 of the feed names no product"),
        (feed(items=[{"sku": "P1", "price_minor": 9.9}]), "no sound price: 9.9"),
        (feed(items=[{"sku": "P1", "price_minor": 0}]), "no sound price: 0"),
        (feed(items=[{"sku": "P1", "price_minor": True}]), "no sound price: True"),
        (feed(items=[{"sku": "P1", "price_minor": 10**12}]), "no sound price"),
    ],
)
def test_what_is_no_feed_is_refused_as_a_whole(content, problem):
    with pytest.raises(MalformedFeedError, match=problem):
        parse(content, "acme")
