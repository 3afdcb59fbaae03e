"""The HTTP API: how services stand, their audit, and transitions."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import wraps
from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt

from taskbridge.contrib.django.api import reading
from taskbridge.contrib.django.api.auth import Client, client_of
from taskbridge.contrib.django.api.openapi import DOCUMENT
from taskbridge.contrib.django.api.problems import ProblemError, translated
from taskbridge.contrib.django.documents import done_document, plan_document, service_document
from taskbridge.contrib.django.history import transitions
from taskbridge.contrib.django.moves import carry_out, plan
from taskbridge.contrib.django.site import site_bridge, survey
from taskbridge.exceptions import ConfigurationError

logger = logging.getLogger(__name__)

Answer = Callable[..., dict[str, Any]]


def endpoint(method: str) -> Callable[[Answer], Callable[..., HttpResponse]]:
    """
    Make a view of a function that takes the bridge, the request, its client and the URL's parts, and returns JSON.

    Every request needs a token; a method that is not GET needs one that may move. Nothing is stored by caches.
    """

    def decorate(answer: Answer) -> Callable[..., HttpResponse]:
        # Bearer tokens are not sent by browsers on their own, so there is nothing to forge.
        @csrf_exempt
        @wraps(answer)
        def view(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            try:
                response: HttpResponse = JsonResponse(_answer(answer, method, request, *args, **kwargs))
            except Exception as error:  # noqa: BLE001 - each error has an answer, and what nobody foresaw is logged
                response = translated(error)
                reading.drain(request)
            response["Cache-Control"] = "no-store"
            return response

        return view

    return decorate


def _answer(answer: Answer, method: str, request: HttpRequest, *args: Any, **kwargs: Any) -> dict[str, Any]:
    bridge = _bridge()
    client = _client(bridge.settings.api_tokens, request)
    allowed = ("GET", "HEAD") if method == "GET" else (method,)
    if method and request.method not in allowed:
        raise ProblemError(405, f"use {method}", {"Allow": ", ".join(allowed)})
    if request.method not in {"GET", "HEAD"} and not client.may_move:
        raise ProblemError(403, f"the token of {client.who} may only read")
    return answer(bridge, request, client, *args, **kwargs)


def _bridge() -> Any:
    try:
        return site_bridge()
    except ConfigurationError as error:
        # Nobody knows yet whether the caller may see what is wrong.
        logger.exception("the HTTP API cannot work")
        raise ProblemError(500, "the bridge of this site cannot be used; the site's log says why") from error


def _client(folder: str, request: HttpRequest) -> Client:
    if not folder:
        raise ProblemError(404, 'the API is not switched on: TASKBRIDGE["api_tokens"] names no folder')
    client = client_of(folder, request.headers.get("Authorization", ""))
    if client is None:
        raise ProblemError(
            401, "send a valid token: Authorization: Bearer TOKEN", {"WWW-Authenticate": 'Bearer realm="taskbridge"'}
        )
    return client


@endpoint("GET")
def openapi(bridge: Any, request: HttpRequest, client: Client) -> dict[str, Any]:  # noqa: ARG001
    """Return the description of this API."""
    return DOCUMENT


@endpoint("GET")
def cutovers(bridge: Any, request: HttpRequest, client: Client) -> dict[str, Any]:  # noqa: ARG001
    """Return how every service stands."""
    return {"cutovers": [service_document(found) for found in survey(bridge.store, bridge.settings).values()]}


@endpoint("GET")
def cutover(bridge: Any, request: HttpRequest, client: Client, service: str) -> dict[str, Any]:  # noqa: ARG001
    """Return how one service stands."""
    _known(bridge, service)
    return service_document(survey(bridge.store, bridge.settings)[service])


@endpoint("GET")
def audit(bridge: Any, request: HttpRequest, client: Client, service: str) -> dict[str, Any]:  # noqa: ARG001
    """Return the newest transitions of one service, and where older ones go on."""
    _known(bridge, service)
    limit, since, before = reading.window(request)
    # One more than is asked for tells whether there are more.
    rows = transitions(bridge.store, service, since, limit + 1, before)
    more = len(rows) > limit
    return {"transitions": rows[:limit], "next": rows[limit - 1]["id"] if more else None}


@endpoint("POST")
def transition(bridge: Any, request: HttpRequest, client: Client, service: str) -> dict[str, Any]:
    """Carry a transition out, or show what it would do."""
    _known(bridge, service)
    wanted, dry_run = reading.transition(request, client, service)
    return plan_document(plan(bridge, wanted)) if dry_run else done_document(carry_out(bridge, wanted))


@endpoint("")
def nowhere(bridge: Any, request: HttpRequest, client: Client) -> dict[str, Any]:  # noqa: ARG001
    """Answer for every other place."""
    raise ProblemError(404, "there is nothing here; openapi.json describes what there is")


def _known(bridge: Any, service: str) -> None:
    if service not in bridge.settings.services:
        known = ", ".join(sorted(bridge.settings.services))
        raise ProblemError(404, f"there is no service {service!r}; TASKBRIDGE names: {known}")
