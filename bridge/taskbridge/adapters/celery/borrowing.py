"""
A producer of Celery's pool that is borrowed only when a message goes to Celery's broker.

`send_task` takes a producer before anything is decided. Taking and giving it back costs more than most of what the
bridge itself does for a message, and a message for Kafka has no use for it.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any

from kombu.messaging import Producer

ProducerOrAcquire = Callable[..., Any]


class BorrowedProducer:
    """
    Stands for a producer, and takes one from the app's pool when it is asked for more than serializing.

    It is what `app.producer_or_acquire()` returns, so it is entered, and gives the producer back when it is left.
    """

    serializer = None
    compression = None

    def __init__(self, acquire: ProducerOrAcquire) -> None:
        self._acquire = acquire
        self._lent: Any = None
        self._producer: Any = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.taken(), name)

    def taken(self) -> Any:
        """Return the producer itself."""
        if self._producer is None:
            self._lent = self._acquire()
            self._producer = self._lent.__enter__()
        return self._producer

    def __enter__(self) -> BorrowedProducer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        lent, self._lent, self._producer = self._lent, None, None
        if lent is not None:
            lent.__exit__(kind, error, trace)

    @property
    def connection(self) -> Any:
        """The producer's connection, if it was taken; else what stands for it until then."""
        return _NoConnection(self) if self._producer is None else self._producer.connection

    def _prepare(self, body: Any, *arguments: Any) -> Any:
        prepare: Callable[..., Any] = Producer._prepare
        return prepare(self, body, *arguments)


class _NoConnection:
    """What `send_task` needs of a connection that may not be needed; whatever else is asked of it takes one."""

    __slots__ = ("_producer",)

    def __init__(self, producer: BorrowedProducer) -> None:
        self._producer = producer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._producer.taken().connection, name)

    def _reraise_as_library_errors(self) -> _NoConnection:
        return self

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            return
        connection = self._producer.connection
        if not isinstance(connection, _NoConnection):
            with connection._reraise_as_library_errors():
                raise error


def lend_producers(app: Any) -> None:
    """Have `app.producer_or_acquire()` borrow; once however often it is called."""
    if "producer_or_acquire" not in app.__dict__:
        app.producer_or_acquire = _lending(app.producer_or_acquire)


def _lending(acquire: ProducerOrAcquire) -> ProducerOrAcquire:
    def producer_or_acquire(producer: Any = None) -> Any:
        """Return a context: a producer that is given, or one that is taken from the pool when it is needed."""
        return acquire(producer) if producer else BorrowedProducer(acquire)

    return producer_or_acquire
