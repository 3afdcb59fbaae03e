"""
Suppliers' price feeds: fetched over HTTP, and checked.

A feed is a JSON object `{"supplier": slug, "currency": "EUR", "items": [{"sku", "price_minor"}]}`.
"""

import json
from dataclasses import dataclass
from typing import Any

import httpx

SIZE_LIMIT = 2 * 1024 * 1024
"""Bytes; a longer feed is not read to its end."""
TIMEOUT = httpx.Timeout(10.0, connect=3.0)


class FeedUnavailableError(Exception):
    """The supplier's server did not answer, or not with a feed; it may later."""


class MalformedFeedError(Exception):
    """The answer is not a feed; fetching it again would not help."""


@dataclass(frozen=True)
class Offer:
    """What a supplier asks for a product, in minor units of `currency`."""

    sku: str
    price_minor: int
    currency: str


def fetch(url: str, *, client: httpx.Client | None = None) -> bytes:
    """Return what stands at `url`; raise FeedUnavailableError, or MalformedFeedError if it is too long."""
    with client or httpx.Client(timeout=TIMEOUT, trust_env=False) as http:
        try:
            with http.stream("GET", url, headers={"Accept": "application/json"}) as response:
                if response.status_code != httpx.codes.OK:
                    raise FeedUnavailableError(f"The feed's server answered {response.status_code}.")
                content = bytearray()
                for chunk in response.iter_bytes():
                    content += chunk
                    if len(content) > SIZE_LIMIT:
                        raise MalformedFeedError(f"The feed is longer than {SIZE_LIMIT} bytes.")
        except (httpx.TransportError, httpx.InvalidURL) as problem:
            raise FeedUnavailableError(f"The feed's server cannot be reached: {problem}") from problem
    return bytes(content)


def parse(content: bytes, supplier: str) -> list[Offer]:
    """Return the offers of a feed; raise MalformedFeedError unless every one of them is sound."""
    try:
        feed = json.loads(content)
    except ValueError as problem:
        raise MalformedFeedError(f"The feed is not JSON: {problem}") from problem
    if not isinstance(feed, dict) or not isinstance(feed.get("items"), list):
        raise MalformedFeedError("The feed is not an object with a list of items.")
    if feed.get("supplier") != supplier:
        raise MalformedFeedError(f"The feed is of {feed.get('supplier')!r}, not of {supplier!r}.")
    currency = feed.get("currency")
    if not isinstance(currency, str) or len(currency) != 3:
        raise MalformedFeedError(f"The feed's currency is {currency!r}.")
    return [_offer(item, position, currency) for position, item in enumerate(feed["items"])]


def _offer(item: Any, position: int, currency: str) -> Offer:
    if not isinstance(item, dict) or not isinstance(item.get("sku"), str):
        raise MalformedFeedError(f"Item {position} of the feed names no product.")
    minor = item.get("price_minor")
    if type(minor) is not int or not 0 < minor < 10**12:
        raise MalformedFeedError(f"Item {position} of the feed has no sound price: {minor!r}.")
    return Offer(item["sku"], minor, currency)
