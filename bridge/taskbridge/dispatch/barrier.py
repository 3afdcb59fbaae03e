"""
Scopes in which a publish need not wait: whoever leaves one waits for all at once.

    with taskbridge.barrier():
        for order in orders:
            confirm.delay(order.id)
"""

from __future__ import annotations

import asyncio
import logging
import os
import weakref
from collections.abc import Sequence
from contextvars import ContextVar
from threading import Lock
from types import TracebackType
from typing import Any, Protocol

from taskbridge.exceptions import TaskbridgeError

logger = logging.getLogger("taskbridge.dispatch")

MOST_UNCONFIRMED = 1_000
"""Publishes of one scope that may be under way; the next one waits for those before it."""


class Settler(Protocol):
    """Whoever began publishes, and sees to how they end."""

    def settle(self, begun: Sequence[Any]) -> None:
        """Wait until each has ended and act on that; raise TaskbridgeError when a message may be lost."""
        ...


class Scope:
    """
    Publishes that were begun between the two ends of a barrier.

    Threads may share it, as copies of a context do. After a fork it is the parent's alone.
    """

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._lock = Lock()
        self._open = True
        self._begun: list[tuple[Settler, Any]] = []

    def add(self, settler: Settler, begun: Any) -> bool:
        """Take a publish that was begun, or return False when the scope has ended and the caller must wait himself."""
        with self._lock:
            if not self._open:
                return False
            self._begun.append((settler, begun))
            if len(self._begun) < MOST_UNCONFIRMED:
                return True
            full, self._begun = self._begun, []
        _settle(full)
        return True

    def finish(self) -> None:
        """End the scope and settle what was begun in it; raise TaskbridgeError when a message may be lost."""
        if self.pid != os.getpid():
            return
        with self._lock:
            self._open = False
            begun, self._begun = self._begun, []
        _settle(begun)


_current: ContextVar[Scope | None] = ContextVar("taskbridge_barrier", default=None)
_unfinished: weakref.WeakSet[Scope] = weakref.WeakSet()


def current() -> Scope | None:
    """Return the innermost scope that the caller is in, if this process opened it."""
    scope = _current.get()
    return scope if scope is not None and scope.pid == os.getpid() else None


def finish_all() -> None:
    """Settle what is under way in this process, at its end; what may be lost is logged."""
    for scope in list(_unfinished):
        try:
            scope.finish()
        except TaskbridgeError as error:
            logger.log(logging.ERROR, "%s", error)


class barrier:  # noqa: N801 - it is used like a function
    """
    Let tasks of services with `publish="barrier"` be dispatched without waiting, and wait for all of them at the end.

    For `with` and `async with`; may be nested, and each waits for its own. At the end everything is acknowledged by
    Kafka, or lies in the outbox or with Celery. Raises PublishAmbiguous when something may be lost because the outbox
    could not be written either; an exception from inside keeps precedence, and that is logged. Belongs to a thread or
    an asyncio task. Dispatches of other services are not affected.
    """

    def __enter__(self) -> None:
        self._outer = _current.get()
        self._scope = Scope()
        _unfinished.add(self._scope)
        _current.set(self._scope)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _current.set(self._outer)
        _finish(self._scope, error)

    async def __aenter__(self) -> None:
        self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _current.set(self._outer)
        # Should the wait be cancelled, the thread still sees it through.
        await asyncio.to_thread(_finish, self._scope, error)


def _finish(scope: Scope, error: BaseException | None) -> None:
    try:
        scope.finish()
    except TaskbridgeError as failure:
        if error is None:
            raise
        # One sentence, without the traceback of what it is about: the other error has its own.
        logger.log(logging.ERROR, "%s", failure)
        error.add_note(str(failure))


def _settle(begun: list[tuple[Settler, Any]]) -> None:
    by_settler: dict[int, tuple[Settler, list[Any]]] = {}
    for settler, one in begun:
        by_settler.setdefault(id(settler), (settler, []))[1].append(one)
    failure: TaskbridgeError | None = None
    for settler, ones in by_settler.values():
        try:
            settler.settle(ones)
        except TaskbridgeError as error:
            failure = error
    if failure is not None:
        raise failure
