"""Answers that say what went wrong, as RFC 9457 describes them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from django.http import HttpResponse, JsonResponse

from taskbridge.contrib.django.documents import conditions_document
from taskbridge.contrib.django.moves import MoveRefused
from taskbridge.exceptions import ConfigurationError, TransitionOvertaken, TransitionRefused, Unavailable

logger = logging.getLogger(__name__)

TITLES = {
    400: "The request cannot be understood",
    401: "No valid token",
    403: "This token may only read",
    404: "There is nothing here",
    405: "Not with this method",
    409: "Overtaken",
    413: "Too large",
    415: "Not JSON",
    422: "Refused",
    500: "An error of the bridge",
    503: "Not now",
}
"""What a status means here; each is a problem type of its own."""


class ProblemError(Exception):
    """A request that is answered with a problem: its status, a sentence, and headers."""

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.headers = headers or {}


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None, **members: Any) -> HttpResponse:
    """Return a problem as a response."""
    document = {
        "type": f"urn:taskbridge:problem:{status}",
        "title": TITLES[status],
        "status": status,
        "detail": detail,
    }
    return JsonResponse(
        document | members, status=status, headers=dict(headers or {}), content_type="application/problem+json"
    )


def translated(error: Exception) -> HttpResponse:
    """Return the answer to a request that ended in an error; one that nobody foresaw is logged and not shown."""
    match error:
        case ProblemError():
            return problem(error.status, str(error), error.headers)
        case TransitionOvertaken():
            return problem(409, str(error))
        case MoveRefused():
            return problem(422, str(error), conditions=conditions_document(error.plan.conditions))
        case TransitionRefused():
            return problem(422, str(error), conditions=[])
        case Unavailable():
            return problem(503, str(error), {"Retry-After": "5"})
        case ConfigurationError():
            return problem(500, str(error))
    logger.error("the HTTP API failed", exc_info=error)
    return problem(500, "the bridge failed; its log says why")
