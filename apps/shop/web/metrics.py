"""Metrics on a port of their own, so that they are kept inside whatever leads to the public one."""

import os
from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

from taskbridge.contrib.django.metrics import metrics


class MetricsMiddleware:
    """Answer /metrics with the bridge's, where the server was reached at the port that SHOP_METRICS_PORT names."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response
        self._port = os.environ.get("SHOP_METRICS_PORT")

    def __call__(self, request: HttpRequest) -> HttpResponse:
        # The port of the server itself, not the one that a client may write into its request.
        if request.path == "/metrics" and self._port and request.META.get("SERVER_PORT") == self._port:
            return metrics(request)
        return self._get_response(request)
