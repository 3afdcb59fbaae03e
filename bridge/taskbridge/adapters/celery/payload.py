"""A record's message, decoded as a Celery worker decodes it."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from celery.worker.strategy import hybrid_to_proto2, proto1_to_proto2
from kombu import serialization
from kombu.compression import decompress
from kombu.exceptions import ContentDisallowed
from kombu.message import Message as KombuMessage
from kombu.utils.json import loads as kombu_loads

from taskbridge.exceptions import MalformedRecord
from taskbridge.record import Message

PICKLE = {"application/x-python-serialize", "pickle"}


class Payload(NamedTuple):
    """
    What a message says: the call, its canvas (`embed`), Celery's headers and properties.

    `headers` is a dict of its own, free to be changed.
    """

    args: Any
    kwargs: Any
    embed: Any
    headers: dict[str, Any]
    properties: dict[str, Any]


def accepted_content(accept_content: Any) -> frozenset[str]:
    """Return the content types that are decoded: the application's own, or without any kombu's, but never pickle."""
    types = serialization.prepare_accept_content(accept_content)
    if types is None:
        types = serialization.registry.type_to_name.keys() - serialization.registry._disabled_content_types
    return frozenset(types) - PICKLE


def _loads(text: bytes) -> Any:
    # Celery's JSON marks the types that JSON lacks; the hook that restores them costs a call per object.
    # Given bytes, `json` would first guess their encoding.
    return kombu_loads(text) if b'"__type__"' in text else json.loads(text.decode())


def load(message: Message, accept: frozenset[str]) -> Payload:
    """
    Return the payload of a message of task protocol 1 or 2.

    Raises MalformedRecord for a content type that is not accepted, a body that cannot be decoded, and a body that is
    not a call.
    """
    try:
        headers = _loads(message.headers)
        properties = _loads(message.properties)
        body: bytes = message.body
        if headers.get("compression"):
            body = decompress(body, headers["compression"])
        if message.content_type == "application/json" and message.content_encoding == "utf-8":
            if "application/json" not in accept:
                raise ContentDisallowed("application/json is not in accept_content")
            decoded = _loads(body)
        else:
            decoded = serialization.loads(body, message.content_type, message.content_encoding, accept=accept)
        if isinstance(decoded, dict):
            return _from_protocol_1(message, decoded, headers, properties)
        args, kwargs, embed = decoded
    except MalformedRecord:
        raise
    except ContentDisallowed as error:
        raise MalformedRecord(
            f"content of type {message.content_type} is not accepted: {error}; pickle never is, others are allowed by"
            " Celery's accept_content"
        ) from error
    except Exception as error:
        raise MalformedRecord(f"the body cannot be decoded: {type(error).__name__}: {error}") from error
    return Payload(args, kwargs, embed, headers, properties)


def _from_protocol_1(
    message: Message, body: dict[str, Any], headers: dict[str, Any], properties: dict[str, Any]
) -> Payload:
    envelope = KombuMessage(body=message.body, headers=dict(headers), properties=properties)
    # As a Celery worker chooses; what it calls hybrid is every message that names arguments.
    convert = hybrid_to_proto2 if "args" in body else proto1_to_proto2
    (args, kwargs, embed), converted, _, _ = convert(envelope, body)
    return Payload(args, kwargs, embed, dict(converted), properties)
