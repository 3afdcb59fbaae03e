"""Taking messages of one service out of Celery's queues, without touching those of others."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from taskbridge.adapters.celery.addressing import Addressing
from taskbridge.adapters.celery.payload import accepted_content, load
from taskbridge.adapters.celery.queues import Waiting, connected, is_redis, key_of, look_in_redis, queues_of
from taskbridge.adapters.celery.wire import PICKLE
from taskbridge.exceptions import ConfigurationError, MalformedRecord
from taskbridge.settings import Settings

_TAKE = """
if redis.call('LREM', KEYS[1], -1, ARGV[1]) == 0 then return 0 end
redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
redis.call('ZADD', KEYS[3], ARGV[4], ARGV[2])
return 1
"""
"""
Takes one message out of a queue, unless a worker was quicker, and notes it as unacknowledged.

So it is what a worker has fetched: should we die, Celery's visibility timeout puts it back.
"""


@dataclass(frozen=True, slots=True)
class Taken:
    """A message that is ours until it is acknowledged or put back; `due` is its ETA as it was sent, or empty."""

    waiting: Waiting
    key: str
    due: str
    tag: str


@dataclass(slots=True)
class Contents:
    """What the queues hold of a service: `movable` messages, and how many others have to stay or are out of reach."""

    movable: list[tuple[Waiting, str]]
    unsupported: int = 0
    with_workers: int = 0


class QueueTaker:
    """The queues of one service at a Redis broker."""

    def __init__(self, app: Any, settings: Settings, service: str) -> None:
        self._app = app
        self._settings = settings
        self._service = service
        self._addressing = Addressing(app, settings)
        self._accept = accepted_content(app.conf.accept_content)

    @contextmanager
    def open(self) -> Iterator[OpenQueues]:
        """
        Yield the queues, open.

        Raises BrokerUnavailable, ConfigurationError with a broker that one cannot look into.
        """
        with connected(self._app) as connection:
            if not is_redis(connection):
                raise ConfigurationError(
                    f"messages cannot be taken out of {connection.transport.driver_type} one by one: let Celery workers"
                    f" execute what is queued of service {self._service!r}"
                )
            with connection.channel() as channel:
                yield OpenQueues(self, channel, queues_of(self._app, self._settings, self._service))

    def silent(self) -> bool:
        """Return whether no Celery worker answers."""
        with connected(self._app) as connection:
            return not self._app.control.inspect(timeout=1.0, connection=connection).ping()

    def key(self, waiting: Waiting) -> str | None:
        """Return the key of a message, or None when it is not of the service or cannot be read."""
        try:
            payload = load(waiting.message, self._accept)
        except MalformedRecord:
            return None
        message = waiting.message
        found = self._addressing.service(message.task, waiting.queue, payload.args, payload.kwargs)
        if found is None or found.name != self._service:
            return None
        return self._addressing.key(found, message.task, payload.args, payload.kwargs, message.task_id)


class OpenQueues:
    """Queues over one channel."""

    def __init__(self, taker: QueueTaker, channel: Any, queues: Sequence[str]) -> None:
        self._taker = taker
        self._channel = channel
        self._queues = queues
        self._lists = {
            queue: [key_of(channel, channel._q_for_pri(queue, priority)) for priority in channel.priority_steps]
            for queue in queues
        }

    def look(self) -> Contents:
        """Return what is there of the service, oldest first."""
        queued, unacknowledged, _ = look_in_redis(self._channel, self._queues)
        contents = Contents([])
        for waiting in queued:
            key = self._taker.key(waiting)
            if key is None:
                continue
            if _is_for_celery_only(waiting):
                contents.unsupported += 1
            else:
                contents.movable.append((waiting, key))
        contents.with_workers = sum(self._taker.key(waiting) is not None for waiting in unacknowledged)
        return contents

    def take(self, waiting: Waiting, key: str) -> Taken | None:
        """Take a message, or return None when a worker was quicker."""
        payload = json.loads(waiting.raw)
        properties = payload["properties"]
        tag, info = properties["delivery_tag"], properties["delivery_info"]
        fetched = json.dumps([payload, info.get("exchange"), info.get("routing_key")])
        keys = (
            key_of(self._channel, self._channel.unacked_key),
            key_of(self._channel, self._channel.unacked_index_key),
        )
        with self._channel.conn_or_acquire() as client:
            for name in self._lists[waiting.queue]:
                if client.eval(_TAKE, 3, name, *keys, waiting.raw, tag, fetched, time.time()):
                    return Taken(waiting, key, (payload.get("headers") or {}).get("eta") or "", tag)
        return None

    def acknowledge(self, taken: Taken) -> None:
        """Forget a message that is safe elsewhere."""
        with self._channel.conn_or_acquire() as client, client.pipeline(transaction=True) as pipe:
            pipe.zrem(self._channel.unacked_index_key, taken.tag)
            pipe.hdel(self._channel.unacked_key, taken.tag)
            pipe.execute()

    def put_back(self, taken: Taken) -> None:
        """Let a message be the next that a worker gets."""
        name = self._lists[taken.waiting.queue][0]
        with self._channel.conn_or_acquire() as client, client.pipeline(transaction=True) as pipe:
            pipe.execute_command("RPUSH", name.removeprefix(key_of(self._channel, "")), taken.waiting.raw)
            pipe.zrem(self._channel.unacked_index_key, taken.tag)
            pipe.hdel(self._channel.unacked_key, taken.tag)
            pipe.execute()


def _is_for_celery_only(waiting: Waiting) -> bool:
    if waiting.message.content_type == PICKLE:
        return True
    return bool(waiting.message.decoded_properties().get("priority"))
