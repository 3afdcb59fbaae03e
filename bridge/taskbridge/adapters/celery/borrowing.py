"""
A producer of Celery's pool that is borrowed only when a message goes to Celery's broker.

`send_task` takes a producer before anything is decided. Taking and giving it back costs more than most of what the
bridge itself does for a message, and a message for Kafka has no use for it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

from kombu.messaging import Producer

BEFORE_PRODUCER = 6
"""Arguments of `send_task` that stand before `producer`; nobody gives more than these by position."""


class BorrowedProducer:
    """Stands for a producer, and takes one from the app's pool when it is asked for more than serializing."""

    serializer = None
    compression = None

    def __init__(self, app: Any) -> None:
        self._app = app
        self._producer: Any = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.taken(), name)

    def taken(self) -> Any:
        """Return the producer itself."""
        if self._producer is None:
            self._producer = self._app.producer_or_acquire().__enter__()
        return self._producer

    def give_back(self) -> None:
        """Give the producer back, if one was taken; its connection goes when an exception is under way."""
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.__exit__(*sys.exc_info())

    @property
    def connection(self) -> Any:
        """The producer's connection, if it was taken; else what stands for it until then."""
        return _NoConnection(self) if self._producer is None else self._producer.connection

    def _prepare(self, body: Any, *arguments: Any) -> Any:
        prepare: Callable[..., Any] = Producer._prepare
        return prepare(self, body, *arguments)


class _NoConnection:
    """What `send_task` needs of a connection that may not be needed; whatever else is asked of it takes one."""

    def __init__(self, producer: BorrowedProducer) -> None:
        self._producer = producer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._producer.taken().connection, name)

    @contextmanager
    def _reraise_as_library_errors(self) -> Iterator[None]:
        try:
            yield
        except Exception:
            connection = self._producer.connection
            if isinstance(connection, _NoConnection):
                raise
            with connection._reraise_as_library_errors():
                raise


def lend_producers(app: Any) -> None:
    """Have `app.send_task` borrow; once however often it is called."""
    send_task = app.send_task
    if not hasattr(send_task, "taskbridge_lends"):
        app.send_task = _lending(app, send_task)


def _lending(app: Any, send_task: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(send_task)
    def send(*args: Any, **options: Any) -> Any:
        if len(args) > BEFORE_PRODUCER or options.get("producer") or options.get("connection"):
            return send_task(*args, **options)
        producer = BorrowedProducer(app)
        try:
            return send_task(*args, **options | {"producer": producer})
        finally:
            producer.give_back()

    send.taskbridge_lends = True  # type: ignore[attr-defined]
    return send
