"""Whether Celery still has messages of keys that are to leave it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from kombu.exceptions import OperationalError

from taskbridge.adapters.celery.addressing import Addressing
from taskbridge.adapters.celery.payload import accepted_content, load
from taskbridge.adapters.celery.queues import Waiting, connected, depth, is_redis, look_in_redis, queues_of
from taskbridge.exceptions import BrokerUnavailable, MalformedRecord
from taskbridge.settings import Settings

log = logging.getLogger("taskbridge.relay")

ANSWER_TIMEOUT = 1.0
"""Seconds that Celery workers have to answer."""

GONE_AFTER = 300.0
"""Seconds of silence after which a Celery worker counts as gone: what it ran is either lost or delivered again."""

OURS = "taskbridge-"
"""Begins the names of the bridge's own processes, which may listen to what Celery's workers are told."""

Mine = Callable[[str], bool]
"""Says of a key whether it is among those that are to leave."""


class Leftovers:
    """
    Looks for messages of a service at Celery's broker and with its workers.

    What has an ETA gave up its place when it was sent, and is not looked for. In Redis one sees which keys the messages
    are of; with other brokers every message in the service's queues counts.
    """

    def __init__(self, app: Any, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` returns monotonic seconds."""
        self._app = app
        self._settings = settings
        self._addressing = Addressing(app, settings)
        self._accept = accepted_content(app.conf.accept_content)
        self._clock = clock
        self._heard: dict[str, float] = {}

    def find(self, service: str, mine: Mine) -> str:
        """Return, in words, what is left of a service's keys, or an empty string; raise BrokerUnavailable."""
        # The broker first: what a worker has taken by then, and is not acknowledged, it tells when it is asked next.
        return self._at_the_broker(service, mine) or self._with_workers(service, mine)

    def _at_the_broker(self, service: str, mine: Mine) -> str:
        queues = queues_of(self._app, self._settings, service)
        with connected(self._app) as connection:
            if is_redis(connection):
                with connection.channel() as channel:
                    queued, unacknowledged, whole = look_in_redis(channel, queues)
                    known = [name for *_, name in channel.get_table(self._pidbox)]
                for name in known:
                    worker = name.removesuffix(f".{self._pidbox}")
                    if not worker.startswith(OURS):
                        self._heard.setdefault(worker, self._clock())
                if not whole:
                    return "a queue is long"
                if number := sum(self._counts(one, service, mine) for one in queued):
                    return f"{number} queued"
                if number := sum(self._counts(one, service, mine) for one in unacknowledged):
                    return f"{number} not acknowledged"
                return ""
        return f"{number} queued" if (number := depth(self._app, queues)) else ""

    @property
    def _pidbox(self) -> str:
        return f"{self._app.control.mailbox.namespace}.pidbox"

    def _counts(self, waiting: Waiting, service: str, mine: Mine) -> bool:
        if waiting.due:
            return False
        message = waiting.message
        try:
            payload = load(message, self._accept)
        except MalformedRecord:
            # No worker will run it; until one has thrown it away it is counted.
            return True
        return self._is_mine(service, message.task, waiting.queue, payload.args, payload.kwargs, message.task_id, mine)

    def _is_mine(self, service: str, task: str, queue: str, args: Any, kwargs: Any, task_id: str, mine: Mine) -> bool:
        if not isinstance(args, list | tuple) or not isinstance(kwargs, Mapping):
            return True
        found = self._addressing.service(task, queue, args, kwargs)
        if found is None or found.name != service:
            return False
        return mine(self._addressing.key(found, task, args, kwargs, task_id))

    def _with_workers(self, service: str, mine: Mine) -> str:
        answers = self._ask("ping")
        now = self._clock()
        self._heard.update(dict.fromkeys(answers, now))
        for name, heard in list(self._heard.items()):
            if now - heard > GONE_AFTER:
                log.warning("Celery worker %s has not answered for %g s and counts as gone", name, GONE_AFTER)
                del self._heard[name]
        if silent := sorted(self._heard.keys() - answers.keys()):
            return f"{', '.join(silent)} does not answer"
        if not answers:
            return ""
        for question, words in (("reserved", "reserved"), ("active", "running")):
            found = self._ask(question)
            if silent := sorted(answers.keys() - found.keys()):
                return f"{', '.join(silent)} does not answer"
            if number := sum(self._runs(request, service, mine) for one in found.values() for request in one or ()):
                return f"{number} {words}"
        return ""

    def _runs(self, request: Mapping[str, Any], service: str, mine: Mine) -> bool:
        queue = (request.get("delivery_info") or {}).get("routing_key") or ""
        return self._is_mine(
            service, request["name"], queue, request.get("args"), request.get("kwargs"), request["id"], mine
        )

    def _ask(self, question: str) -> dict[str, Any]:
        try:
            with connected(self._app) as connection:
                # To all: named ones would be listened to for as many answers as there are names.
                replies = self._app.control.broadcast(
                    question, reply=True, timeout=ANSWER_TIMEOUT, connection=connection
                )
        except OperationalError as error:
            raise BrokerUnavailable(f"Celery's workers cannot be asked: {error}") from error
        # Not by `inspect`: of two workers of one name, such as of two applications on a host, it keeps one answer.
        found: dict[str, Any] = {}
        for name, answer in (pair for reply in replies or () for pair in reply.items()):
            known = found.get(name)
            found[name] = [*known, *answer] if isinstance(known, list) and isinstance(answer, list) else answer
        return found
