"""A pause after a publish failed, so that not every caller waits for a broker that does not answer."""

from __future__ import annotations

from collections.abc import Callable


class Breaker:
    """
    Open for `seconds` after a failure; then one attempt at a time is let through until one succeeds.

    Threads may race for the attempt that is let through: that costs one of them a wait, never a message.
    """

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        """`clock` returns monotonic seconds."""
        self._seconds = seconds
        self._clock = clock
        self._closed = True
        self._retry_at = 0.0

    def allows(self) -> bool:
        """Return whether to attempt a publish; the attempt must be followed by `succeeded` or `failed`."""
        if self._closed:
            return True
        now = self._clock()
        if now < self._retry_at:
            return False
        self._retry_at = now + self._seconds
        return True

    def succeeded(self) -> None:
        """Close."""
        self._closed = True

    def failed(self) -> None:
        """Open."""
        self._retry_at = self._clock() + self._seconds
        self._closed = False
