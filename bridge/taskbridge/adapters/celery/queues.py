"""What waits in Celery's queues."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from kombu.exceptions import KombuError, OperationalError

from taskbridge.adapters.celery.features import queue_of, tasks_of
from taskbridge.adapters.celery.wire import encode_json
from taskbridge.exceptions import BrokerUnavailable, MalformedRecord
from taskbridge.record import Message
from taskbridge.settings import Settings

CONNECT_TIMEOUT = 3.0
"""Seconds to reach Celery's broker for a question that nothing depends on."""

MOST_LOOKED_AT = 5_000
"""Messages of one queue that are looked into; one that holds more is not nearly empty anyway."""

_TRANSPORT_OWN = frozenset({"body_encoding", "delivery_tag"})
"""Properties that the transport adds to a message."""


def depth(app: Any, queues: Iterable[str]) -> int:
    """
    Return how many messages wait in these queues together, as the broker counts them; a missing queue holds none.

    What a worker has fetched already is not counted. Raises BrokerUnavailable.
    """
    total = 0
    with connected(app) as connection:
        for queue in queues:
            # The broker closes a channel on which a queue is missing.
            with connection.channel() as channel:
                try:
                    total += channel.queue_declare(queue=queue, passive=True).message_count
                except connection.channel_errors as error:
                    if "NOT_FOUND" not in str(error):
                        raise
    return total


def queues_of(app: Any, settings: Settings, service: str) -> list[str]:
    """Return the queues that messages of a service go to, as far as settings and registered tasks tell."""
    names = set(settings.service(service).queues)
    names.update(queue_of(app, name, app.tasks[name]) for name in tasks_of(app, settings, service))
    return sorted(names)


@contextmanager
def connected(app: Any) -> Iterator[Any]:
    """Yield a connection to Celery's broker; raise BrokerUnavailable when it is not to be had, or breaks."""
    try:
        with app.connection_for_read(connect_timeout=CONNECT_TIMEOUT) as connection:
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=CONNECT_TIMEOUT)
            errors = (*connection.connection_errors, *connection.channel_errors)
            try:
                yield connection
            except errors as error:
                raise OperationalError(str(error)) from error
    except (OperationalError, KombuError, OSError) as error:
        raise BrokerUnavailable(f"Celery's broker does not answer: {error}") from error


@dataclass(frozen=True, slots=True)
class Waiting:
    """
    One message at Celery's broker, `raw` as the transport holds it.

    `due` says that it has an ETA: such a message waits for its time, in a queue or with a worker.
    """

    queue: str
    message: Message
    raw: bytes
    due: bool


def is_redis(connection: Any) -> bool:
    """Return whether one can look into the broker's queues without taking messages out."""
    return bool(connection.transport.driver_type == "redis")


def key_of(channel: Any, name: str) -> str:
    """Return the whole name of a key of the transport, which prefixes it in some commands and not in others."""
    return f"{getattr(channel, 'global_keyprefix', '') or ''}{name}"


def look_in_redis(channel: Any, queues: Iterable[str]) -> tuple[list[Waiting], list[Waiting], bool]:
    """
    Return what is queued, oldest first, what is with workers and not acknowledged, and whether that is all.

    Seen at one moment. `unacknowledged` messages are those of all queues.
    """
    names = list(queues)
    keys = [(queue, channel._q_for_pri(queue, priority)) for queue in names for priority in channel.priority_steps]
    with channel.conn_or_acquire() as client, client.pipeline(transaction=True) as pipe:
        for _, key in keys:
            pipe.lrange(key_of(channel, key), -MOST_LOOKED_AT - 1, -1)
        pipe.hvals(key_of(channel, channel.unacked_key))
        *lists, fetched = pipe.execute()
    whole = all(len(found) <= MOST_LOOKED_AT for found in lists)
    # A message is put in at the left and taken out at the right.
    queued = [read(queue, raw) for (queue, _), found in zip(keys, lists, strict=True) for raw in reversed(found)]
    unacknowledged = []
    for entry in fetched:
        payload, _, routing_key = json.loads(entry)
        unacknowledged.append(_read(routing_key, payload, b""))
    return queued, unacknowledged, whole


def read(queue: str, raw: bytes) -> Waiting:
    """Return the message that kombu's virtual transports hold as `raw`; raise MalformedRecord when it is none."""
    try:
        return _read(queue, json.loads(raw), raw)
    except (ValueError, KeyError, TypeError) as error:
        raise MalformedRecord(f"a message in Celery's queue {queue!r} cannot be read: {error!r}") from error


def _read(queue: str, payload: dict[str, Any], raw: bytes) -> Waiting:
    headers, properties = payload.get("headers") or {}, payload.get("properties") or {}
    text = payload["body"]
    body = b64decode(text) if properties.get("body_encoding") == "base64" else text.encode()
    return Waiting(queue, message_of(body, headers, properties, payload), raw, bool(headers.get("eta")))


def message_of(body: bytes, headers: dict[str, Any], properties: dict[str, Any], content: dict[str, Any]) -> Message:
    """
    Return what the broker holds as it was published.

    `content` has `content-type` and `content-encoding`. Task protocol 1 keeps name and id in its body.
    """
    kept = {name: value for name, value in properties.items() if name not in _TRANSPORT_OWN}
    if not kept.get("priority"):
        kept.pop("priority", None)
    info = kept.get("delivery_info") or {}
    kept["delivery_info"] = {name: info.get(name) or "" for name in ("exchange", "routing_key")}
    own = {name: value for name, value in headers.items() if name != "redelivered"}
    task, task_id = own.get("task"), own.get("id")
    if not task or not task_id:
        inner = json.loads(body)
        task, task_id = inner["task"], inner["id"]
    return Message(
        task,
        task_id,
        body,
        content.get("content-type") or "",
        content.get("content-encoding") or "utf-8",
        encode_json(own).encode(),
        encode_json(kept).encode(),
    )
