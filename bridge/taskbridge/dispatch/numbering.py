"""Who dispatched, and its how-manyth message it was."""

from __future__ import annotations

import os
import re
import secrets
import socket
from itertools import count
from threading import Lock


class Numbering:
    """
    The name of this process, and a running number per service.

    A forked child is another process: it gets a name of its own and numbers from 1. A number that nobody has seen,
    between two that were, is a dispatch whose traces were lost.
    """

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        # A new lock too: a thread of the parent may have held the old one at the fork.
        self._lock = Lock()
        self._pid = os.getpid()
        # The host's name goes into colon-separated text and into a record header.
        host = re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname()) or "host"
        self._source = f"{host}:{self._pid}:{secrets.token_hex(4)}"
        self._numbers: dict[str, count[int]] = {}

    @property
    def source(self) -> str:
        """The process as `host:pid:random`."""
        # Not every server that forks in C lets Python know.
        if self._pid != os.getpid():
            self._begin()
        return self._source

    def next(self, service: str) -> tuple[str, int]:
        """Return the process and the service's next number, from 1."""
        source = self.source
        numbers = self._numbers.get(service)
        if numbers is None:
            with self._lock:
                numbers = self._numbers.setdefault(service, count(1))
        return source, next(numbers)
