"""
What happens to resources, as kopf tells it.

Only `on.event` handlers: with timers, daemons or handlers of deletion kopf puts finalizers on resources, and an
uninstall that takes the operator away first would hang on them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import kopf

from lagscaler.kubernetes.kinds import Kind

logger = logging.getLogger(__name__)

Seen = Callable[[Kind, str | None, Mapping[str, Any]], None]
"""Called with the kind, what happened (`DELETED`, or something else) and the resource."""

PATIENCE = 20.0
"""Seconds that kopf may take to end before it is cut off."""


async def watch(
    kinds: Iterable[Kind], namespaces: Iterable[str], seen: Seen, stop: asyncio.Event, ready: asyncio.Event
) -> None:
    """
    Watch resources until `stop` is set or something ends it; no namespaces means all of them.

    `ready` is set once it has begun; from then until it ends kopf's handlers of SIGINT and SIGTERM are installed, which
    end it too, unless the caller installs others. Raises what kopf raises when it cannot go on, such as its errors of
    the API.
    """
    where = tuple(namespaces)
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.peering.standalone = True
    # The kinds are known, and the right to watch definitions and namespaces is not needed then.
    settings.scanning.disabled = True
    settings.watching.server_timeout = 300
    settings.networking.request_timeout = 30
    settings.process.ultimate_exiting_timeout = None
    settings.queueing.exit_timeout = PATIENCE / 4
    await kopf.operator(
        registry=_registry(kinds, seen),
        settings=settings,
        clusterwide=not where,
        namespaces=where,
        stop_flag=stop,
        ready_flag=ready,
    )


def _registry(kinds: Iterable[Kind], seen: Seen) -> kopf.OperatorRegistry:
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    def login(**options: Any) -> kopf.ConnectionInfo | None:
        return kopf.login_with_service_account(**options) or kopf.login_with_kubeconfig(**options)

    for kind in kinds:
        _register(registry, kind, seen)
    return registry


def _register(registry: kopf.OperatorRegistry, kind: Kind, seen: Seen) -> None:
    @kopf.on.event(kind.group, kind.version, kind.plural, registry=registry, id=kind.plural)
    async def happened(event: kopf.RawEvent, **_: Any) -> None:
        seen(kind, event["type"], event["object"])
