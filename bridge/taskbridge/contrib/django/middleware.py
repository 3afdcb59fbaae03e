"""For `MIDDLEWARE` in Django's settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction

from taskbridge.dispatch.barrier import barrier


class BarrierMiddleware:
    """
    Makes every request a barrier: the response leaves when all that the request dispatched is safe.

    Put it first, so that what other middleware dispatches is waited for too. What a streaming response dispatches while
    it is being sent comes after the barrier, and so waits for itself. Works in sync and in async projects.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[Any], Any]) -> None:
        self._get_response = get_response
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: Any) -> Any:
        """Return the response, or in an async project what to await for it."""
        if self._is_async:
            return self._respond(request)
        with barrier():
            return self._get_response(request)

    async def _respond(self, request: Any) -> Any:
        async with barrier():
            return await self._get_response(request)
