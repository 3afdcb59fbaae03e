"""What the JSON views share: who may call, what a body must look like, how errors read."""

import json
import logging
from collections.abc import Callable
from functools import wraps
from secrets import compare_digest
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from kombu.exceptions import OperationalError as BrokerUnreachable

logger = logging.getLogger(__name__)

View = Callable[..., HttpResponse]


class BadRequestError(Exception):
    """The caller's mistake; the message says which."""


def error(status: int, sentence: str) -> JsonResponse:
    """Return an error as JSON."""
    return JsonResponse({"error": sentence}, status=status)


def json_view(*methods: str) -> Callable[[View], View]:
    """
    Make a view of the JSON API out of a function.

    Other methods get 405, a BadRequestError becomes 400, a broker that does not answer 503, and every
    method but GET needs a token.
    """

    def decorate(view: View) -> View:
        @csrf_exempt
        @wraps(view)
        def wrapper(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            if request.method not in methods:
                response = error(405, f"Use {' or '.join(methods)}.")
                response["Allow"] = ", ".join(methods)
                return response
            if request.method != "GET" and not _authorized(request):
                response = error(401, "Send a valid token: Authorization: Bearer TOKEN.")
                response["WWW-Authenticate"] = "Bearer"
                return response
            try:
                return view(request, *args, **kwargs)
            except BadRequestError as problem:
                return error(400, str(problem))
            except BrokerUnreachable:
                logger.exception("%s %s", request.method, request.path)
                return error(503, "The shop cannot work on this now: send the same request again later.")

        return wrapper

    return decorate


def _authorized(request: HttpRequest) -> bool:
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not given:
        return False
    presented = given.strip().encode()
    # Compare with every token, so that the time says nothing about which one came close.
    matches = [compare_digest(presented, token.encode()) for token in settings.SHOP_API_TOKENS]
    return any(matches)


def body(request: HttpRequest) -> dict[str, Any]:
    """Return the request's JSON object; raise BadRequestError if it is anything else."""
    if request.content_type != "application/json":
        raise BadRequestError("Send the content type application/json.")
    try:
        content = json.loads(request.body)
    except (ValueError, RecursionError):
        raise BadRequestError("The body is not JSON.") from None
    if not isinstance(content, dict):
        raise BadRequestError("The body must be a JSON object.")
    return content


def only(content: dict[str, Any], *names: str) -> None:
    """Raise BadRequestError if an object has other members than these."""
    others = sorted(content.keys() - set(names))
    if others:
        raise BadRequestError(f"Unknown field {others[0]!r}.")


def text(content: dict[str, Any], name: str, longest: int) -> str:
    """Return a member that must be a text of 1 to `longest` characters."""
    value = content.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= longest or "\x00" in value:
        raise BadRequestError(f"{name} must be a text of 1 to {longest} characters.")
    return value


def whole(content: dict[str, Any], name: str, most: int) -> int:
    """Return a member that must be a whole number from 1 to `most`."""
    value = content.get(name)
    if type(value) is not int or not 0 < value <= most:
        raise BadRequestError(f"{name} must be a whole number from 1 to {most}.")
    return value
