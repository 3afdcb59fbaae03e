"""
Celery's message parts between kombu's publish and a record.

A record holds what the broker would have received; both ways are kept here, so that they undo each other.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from kombu.entity import Exchange, Queue, maybe_delivery_mode
from kombu.utils.json import JSONEncoder
from kombu.utils.json import loads as loads_json

encode_json = JSONEncoder(separators=(",", ":")).encode

PUBLISH_OPTIONS = frozenset(
    {
        "compression",
        "confirm_timeout",
        "content_encoding",
        "content_type",
        "declare",
        "delivery_mode",
        "exchange",
        "headers",
        "immediate",
        "mandatory",
        "retry",
        "retry_policy",
        "routing_key",
        "serializer",
        "timeout",
    }
)
"""Arguments of kombu's `publish` that do not become properties of the message (or become others)."""

_USUAL_OPTIONS = PUBLISH_OPTIONS | {"correlation_id", "reply_to"}

PICKLE = "application/x-python-serialize"

_DELAY_EXCHANGE = re.compile(r"(.*)celery_delayed_27")
_DELAY_PREFIX = re.compile(r"(?:[01]\.){28}")


class Serialized(str):
    """
    Text that `Producer.publish` passes on as it is.

    Given a content type, publish encodes text to bytes; given a serializer, it hands text to the transport. Transports
    may tell the two apart, and must not see that the serializing was done ahead.
    """

    __slots__ = ()

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> str:  # type: ignore[override] # noqa: ARG002
        """Return the text itself."""
        return str(self)


def as_bytes(body: str | bytes, content_encoding: str) -> bytes:
    """Return a serialized body as the bytes that a consumer decodes."""
    return body.encode(content_encoding) if isinstance(body, str) else bytes(body)


def as_published(body: bytes, content_encoding: str, compressed: bool) -> str | bytes:
    """Return a record's value as publish takes it with a content type, to reach the transport as it once would."""
    if compressed or content_encoding.lower() not in {"utf-8", "us-ascii", "ascii"}:
        return body
    return Serialized(body.decode(content_encoding))


def delivery_info(exchange: Any, routing_key: str | None) -> dict[str, str]:
    """
    Return `{exchange, routing_key}` of a publish.

    RabbitMQ's native delayed delivery encodes the countdown into both; they are taken back to the ones that deliver at
    once, because the bridge keeps time itself.
    """
    name = exchange.name if isinstance(exchange, Exchange) else exchange or ""
    routing_key = routing_key or ""
    if delayed := _DELAY_EXCHANGE.fullmatch(name):
        return {
            "exchange": f"{delayed[1]}celery_delayed_delivery",
            "routing_key": _DELAY_PREFIX.sub("", routing_key, count=1),
        }
    return {"exchange": name, "routing_key": routing_key}


def queue_name(exchange: Any, routing_key: str | None, queue: Any, default: str) -> str:
    """
    Return the queue that a publish with these arguments is for, as far as they tell.

    With an exchange of its own the routing key tells, and the queue is only one to declare.
    """
    if exchange and routing_key:
        return delivery_info(exchange, routing_key)["routing_key"]
    if queue is not None:
        return queue if isinstance(queue, str) else queue.name
    return default if exchange is None else routing_key or default


def properties(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the properties that a message published with `options` has at the broker."""
    found = {name: value for name, value in options.items() if name not in PUBLISH_OPTIONS}
    if isinstance(found.get("reply_to"), Queue):
        found["reply_to"] = found["reply_to"].name
    expiration = found.pop("expiration", None)
    if expiration is not None:
        found["expiration"] = str(int(expiration * 1000))
    if found.get("priority", 0) is None:
        del found["priority"]
    found["delivery_mode"] = maybe_delivery_mode(options.get("delivery_mode"))
    found["delivery_info"] = delivery_info(options.get("exchange"), options.get("routing_key"))
    return found


def encode_properties(options: Mapping[str, Any]) -> bytes:
    """Return `properties(options)` as JSON."""
    reply_to = options.get("reply_to")
    # Most messages of an app differ in the correlation id only, and this is done at every dispatch.
    if options.keys() <= _USUAL_OPTIONS and isinstance(reply_to, str):
        usual = _usual_properties(
            reply_to, options.get("delivery_mode"), options.get("exchange"), options.get("routing_key")
        )
        return f'{{"correlation_id":{json.dumps(options["correlation_id"])},{usual}'.encode()
    return encode_json(properties(options)).encode()


@lru_cache(maxsize=1024)
def _usual_properties(reply_to: str, delivery_mode: Any, exchange: Any, routing_key: str | None) -> str:
    options = {
        "reply_to": reply_to,
        "delivery_mode": delivery_mode,
        "exchange": exchange,
        "routing_key": routing_key,
    }
    return encode_json(properties(options))[1:]


def publish_options(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return what publish needs to be given for a message to have these properties again."""
    options = dict(content)
    delivery = options.pop("delivery_info", None) or {}
    options["exchange"] = delivery.get("exchange") or ""
    options["routing_key"] = delivery.get("routing_key") or ""
    expiration = options.pop("expiration", None)
    if expiration is not None:
        # publish multiplies by 1000 and truncates: half a millisecond keeps binary fractions from losing one.
        options["expiration"] = (int(expiration) + 0.5) / 1000
    return options


def decode_json(text: bytes) -> dict[str, Any]:
    """Return an object that `encode_json` wrote, with its typed values; raise ValueError or TypeError."""
    value = loads_json(text)
    if not isinstance(value, dict):
        raise TypeError(f"expected a JSON object, not {type(value).__name__}")
    return value
