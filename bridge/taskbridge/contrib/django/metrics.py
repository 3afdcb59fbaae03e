"""
What a process that dispatches has counted, for Prometheus.

    path("metrics", taskbridge.contrib.django.metrics.metrics)

A server with several processes answers for the one that was asked, unless `PROMETHEUS_MULTIPROC_DIR` names a folder:
then each process writes its counts there, and any of them answers for all.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe

from taskbridge.adapters.monitoring.exposition import Samples, exposed
from taskbridge.adapters.monitoring.samples import Sample, of_dispatch, of_losses
from taskbridge.adapters.monitoring.sharing import FOLDER_VARIABLE, AllProcesses
from taskbridge.contrib.django.site import site_bridge
from taskbridge.exceptions import TaskbridgeError

if TYPE_CHECKING:
    from taskbridge.contrib.django.wiring import Bridge

log = logging.getLogger("taskbridge.metrics")


@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """Answer a scrape. There is nothing secret in it, and nothing that the world should see: keep it inside."""
    accept = request.headers.get("Accept", "")
    try:
        bridge = site_bridge()
        if bridge.shared is None:
            body, content_type = exposed([Samples(lambda: counted(bridge))], accept)
        else:
            bridge.shared.write()
            body, content_type = exposed([AllProcesses(os.environ[FOLDER_VARIABLE])], accept)
    except (TaskbridgeError, OSError) as error:
        log.warning("metrics cannot be told: %s", error)
        return HttpResponse(f"{error}\n", content_type="text/plain; charset=utf-8", status=503)
    return HttpResponse(body, content_type=content_type)


def counted(bridge: Bridge) -> Iterator[Sample]:
    """Yield what this process has counted of its dispatches, copies and observations."""
    settings = bridge.settings
    yield from of_dispatch(settings.services, bridge.dispatcher.counters.snapshot())
    copies = [settings.shadow_topic(service) for service in settings.services]
    yield from of_losses([*copies, settings.observations_topic], dict(bridge.best_effort.lost))
