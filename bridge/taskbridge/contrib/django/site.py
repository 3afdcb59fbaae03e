"""The bridge of the process that serves this site, and how every service stands in one look."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from celery import current_app
from celery.app.utils import find_app

from taskbridge.contrib.django.store import FLAGS, WRITE_LIMIT, DjangoStore, FlagState, flag
from taskbridge.contrib.django.wiring import bridge_of, is_installed
from taskbridge.cutover import Flag, Stage
from taskbridge.settings import Settings

if TYPE_CHECKING:
    from taskbridge.contrib.django.wiring import Bridge


def site_bridge() -> Bridge:
    """
    Return the bridge of the site's Celery application: the one named by `TASKBRIDGE_APP`, else the current one.

    Raises ConfigurationError when it has no bridge, or its settings do not fit.
    """
    app = current_app
    if not is_installed(app) and (name := os.environ.get("TASKBRIDGE_APP")):
        app = find_app(name)
    return bridge_of(app)


@dataclass(frozen=True, slots=True)
class ServiceState:
    """One service of the settings: its flag, with when that changed (None: never), and its tasks' own flags."""

    flag: Flag
    state: FlagState | None = None
    tasks: Mapping[str, FlagState] = field(default_factory=dict)


def survey(store: DjangoStore, settings: Settings) -> dict[str, ServiceState]:
    """Return how every service of the settings stands, by name; raise StoreUnavailable."""
    with store.sessions.transaction(WRITE_LIMIT) as cursor:
        cursor.execute(FLAGS.format("true"))
        states = [FlagState(flag(*row[:-1]), row[-1]) for row in cursor.fetchall()]
    found: dict[str, ServiceState] = {}
    for name in sorted(settings.services):
        mine = [state for state in states if state.flag.service == name]
        own = next((state for state in mine if not state.flag.task), None)
        tasks = {state.flag.task: state for state in mine if state.flag.task and not state.flag.cleared}
        found[name] = ServiceState(own.flag if own else Flag(name, Stage.OFF), own, dict(sorted(tasks.items())))
    return found
