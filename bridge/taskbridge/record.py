"""
A Celery message as a Kafka record, and back.

The record format, version 1. Key: UTF-8 of the business key (the task id where none is declared). Value: the
bytes of Celery's message body, untouched. Headers, all UTF-8:

    content-type        of the value, as Celery sent it           application/json
    content-encoding    of the value                              utf-8
    task                the task's name
    id                  the task id
    celery-headers      Celery's message headers, JSON            task protocol 2 (empty object in protocol 1)
    celery-properties   Celery's message properties, JSON         with `delivery_info` {exchange, routing_key}
    bridge-route        where this message was sent to            kafka | celery
    bridge-epoch        epoch of the flag that decided            decimal integer
    bridge-producer     the process that dispatched               host:pid:random
    bridge-seq          running number of that producer           decimal integer, from 1, per service
    bridge-deliveries   how often the record was given back       decimal integer, absent on the first delivery
    bridge-sandbox      the copy's key is among those that the    1, absent on other copies
                        stage `shadow` chose for the sandbox
    traceparent         W3C trace context, when one was present

A copy for comparison is the same record in another topic, which is why it can never be taken for the real one.
The layout of a message body and its headers is Celery's task protocol,
https://docs.celeryq.dev/en/stable/internals/protocol.html.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from taskbridge.exceptions import MalformedRecord

Headers = list[tuple[str, bytes]]

SANDBOX = ("bridge-sandbox", b"1")
"""Header of a copy that is meant for the sandbox; decided at dispatch, as everything is."""

REQUIRED_HEADERS = ("content-type", "content-encoding", "task", "id", "celery-headers", "celery-properties")


class Identity(NamedTuple):
    """
    What tells one execution of a task from another.

    `retry()` and `replace()` reuse the task id, so the id alone would take a legitimate second run for a repeat.
    """

    task_id: str
    retries: int
    nesting: int


@dataclass(frozen=True, slots=True)
class Stamp:
    """The decision that sent a message its way, made once at dispatch and never again."""

    route: str
    epoch: int
    producer: str
    seq: int


@dataclass(frozen=True, slots=True)
class Message:
    """
    One Celery message as the broker would have received it.

    `headers` and `properties` are JSON text, because they may hold types that only Celery's own JSON knows.
    """

    task: str
    task_id: str
    body: bytes
    content_type: str
    content_encoding: str
    headers: bytes
    properties: bytes

    def decoded_headers(self) -> dict[str, Any]:
        """Return Celery's headers as plain JSON types; raise MalformedRecord when they are no object."""
        return _json_object(self.headers, "celery-headers")

    def decoded_properties(self) -> dict[str, Any]:
        """Return Celery's properties as plain JSON types; raise MalformedRecord when they are no object."""
        return _json_object(self.properties, "celery-properties")

    def identity(self, headers: Mapping[str, Any] | None = None) -> Identity:
        """
        Return what tells this execution from others; protocol 1 keeps retries in its body, so there they are 0.

        `headers` are the decoded ones, where the caller has them already.
        """
        if headers is None:
            headers = self.decoded_headers()
        retries, nesting = headers.get("retries") or 0, headers.get("replaced_task_nesting") or 0
        if not isinstance(retries, int) or not isinstance(nesting, int):
            raise MalformedRecord("celery-headers: retries and replaced_task_nesting must be integers")
        return Identity(self.task_id, retries, nesting)


@dataclass(frozen=True, slots=True)
class Record:
    """What is handed to the Kafka client: key, value and headers."""

    key: bytes
    value: bytes
    headers: Headers = field(default_factory=list)

    def with_headers(self, **extra: str) -> Record:
        """Return the record with headers set; an underscore in a name stands for a hyphen."""
        names = {name.replace("_", "-"): value.encode() for name, value in extra.items()}
        kept = [pair for pair in self.headers if pair[0] not in names]
        return replace(self, headers=[*kept, *names.items()])


def encode(message: Message, key: str, stamp: Stamp, traceparent: str | None = None) -> Record:
    """Return the record that carries `message`."""
    headers: Headers = [
        ("content-type", message.content_type.encode()),
        ("content-encoding", message.content_encoding.encode()),
        ("task", message.task.encode()),
        ("id", message.task_id.encode()),
        ("celery-headers", message.headers),
        ("celery-properties", message.properties),
        ("bridge-route", stamp.route.encode()),
        ("bridge-epoch", str(stamp.epoch).encode()),
        ("bridge-producer", stamp.producer.encode()),
        ("bridge-seq", str(stamp.seq).encode()),
    ]
    if traceparent:
        headers.append(("traceparent", traceparent.encode()))
    return Record(key.encode(), message.body, headers)


def size(record: Record) -> int:
    """Return the bytes of key, value and headers."""
    total = len(record.key) + len(record.value)
    for name, value in record.headers:
        total += len(name) + len(value)
    return total


def decode(
    value: bytes | None, headers: Iterable[tuple[str, bytes | str | None]] | None
) -> tuple[Message, dict[str, str]]:
    """
    Return the message in a record and its remaining (`bridge-*`, `traceparent`, foreign) headers.

    Raises MalformedRecord when the value is null or a required header is missing or not UTF-8.
    """
    if value is None:
        raise MalformedRecord("the record has no value; a task's record carries Celery's message body")
    found: dict[str, bytes] = {}
    for name, raw in headers or ():
        found[name] = raw.encode() if isinstance(raw, str) else raw or b""
    missing = [name for name in REQUIRED_HEADERS if name not in found]
    if missing:
        raise MalformedRecord(f"the record lacks the header{'s'[: len(missing) > 1]} {', '.join(missing)}")
    try:
        message = Message(
            task=found.pop("task").decode(),
            task_id=found.pop("id").decode(),
            body=value,
            content_type=found.pop("content-type").decode(),
            content_encoding=found.pop("content-encoding").decode(),
            headers=found.pop("celery-headers"),
            properties=found.pop("celery-properties"),
        )
        rest = {name: raw.decode() for name, raw in found.items()}
    except UnicodeDecodeError as error:
        raise MalformedRecord(f"a header of the record is not UTF-8: {error}") from error
    return message, rest


def _json_object(text: bytes, name: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise MalformedRecord(f"{name} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise MalformedRecord(f"{name} must be a JSON object, not {type(value).__name__}")
    return value
