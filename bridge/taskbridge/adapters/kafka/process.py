"""Kafka clients and forks: one client per process, and a parent's client is never touched in a child."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable
from threading import Lock
from typing import Generic, TypeVar

from taskbridge.dispatch.forks import call_before_fork, call_in_child

T = TypeVar("T")

SETTLING = 0.5
"""
Seconds after a client was made before which the process does not fork.

Its threads then take, once each, locks of the TLS library. A child forked at that moment would find one held for ever,
and none of its own clients could ever connect.
"""


class PerProcess(Generic[T]):
    """
    Makes one object per process, when it is first asked for.

    librdkafka's threads do not survive a fork, so that in the child even freeing the parent's client would wait for
    ever: there it is kept, unused, until the child ends.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._begin()
        call_before_fork(self._settle)
        # The child may end without ever asking for an object of its own.
        call_in_child(self._leave_behind)

    def _begin(self) -> None:
        # A new lock too: a thread of the parent may have held the old one at the fork.
        self._lock = Lock()
        self._pid = os.getpid()
        self._value: T | None = None
        self._made_at = float("-inf")

    def _settle(self) -> None:
        remaining = self._made_at + SETTLING - time.monotonic()
        if remaining > 0:
            time.sleep(remaining)

    def _leave_behind(self) -> None:
        if self._value is not None:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._value))
        self._begin()

    def get(self) -> T:
        """Return this process's object."""
        if self._pid != os.getpid():
            self._leave_behind()
        value = self._value
        if value is None:
            with self._lock:
                value = self._value
                if value is None:
                    value = self._value = self._make()
                    self._made_at = time.monotonic()
        return value

    def peek(self) -> T | None:
        """Return this process's object if it was made."""
        return self._value if self._pid == os.getpid() else None

    def take(self) -> T | None:
        """Return this process's object, if it was made, and forget it."""
        value = self.peek()
        if value is not None:
            self.discard(value)
        return value

    def discard(self, value: T) -> None:
        """Forget an object that can no longer be used, so that the next `get` makes another."""
        with self._lock:
            if self._value is value:
                self._value = None
