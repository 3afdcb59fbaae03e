"""
Revoking tasks that wait with the bridge, by Celery's own means.

`AsyncResult.revoke`, `app.control.revoke` and `celery control revoke` all broadcast to the workers. In an app with the
bridge the broadcast first cancels what waits in the database, which no worker has; the relay listens for those that
come from elsewhere.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kombu.exceptions import OperationalError
from kombu.utils.imports import symbol_by_name

log = logging.getLogger("taskbridge.revoking")

COMMANDS = frozenset({"revoke", "terminate"})
"""Broadcasts that name task ids."""

LISTEN = 1.0
"""Seconds after which a listener that hears nothing looks whether it was told to stop."""

NAP = 0.25
"""The same while it waits for a broker."""

LISTEN_AGAIN = 5.0
"""Seconds between attempts to reach a broker that is away."""

Cancel = Callable[[Any, Sequence[str]], None]
"""Cancels what waits of an app's tasks, by id; never raises. Picklable where workers are spawned."""


def install_revoking(app: Any, cancel: Cancel) -> None:
    """
    Make what `app` revokes pass `cancel` before Celery's workers are told.

    For this app only, at any time, and once however often it is called. The app's own control class stays in use.
    """
    if isinstance(app.control_cls, BridgedControl):
        return
    app.control_cls = BridgedControl(app.control_cls, cancel)
    control = app.__dict__.get("control")
    if control is not None:
        # Others may hold the object already, so it changes its class rather than being replaced.
        control.__class__ = _bridged(type(control))
        control.cancel = cancel


@dataclass(frozen=True)
class BridgedControl:
    """What stands in `app.control_cls`: an object, so that an app which is pickled carries it along."""

    original: Any
    cancel: Cancel

    def __call__(self, app: Any) -> Any:
        control = _bridged(symbol_by_name(self.original))(app)
        control.cancel = self.cancel
        return control


class BridgeControl:
    """Mixed into an app's control class."""

    app: Any
    cancel: Cancel

    def broadcast(
        self, command: str, arguments: Mapping[str, Any] | None = None, destination: Any = None, **options: Any
    ) -> Any:
        """Send a command to the workers; one that revokes tasks for all of them also cancels what waits here."""
        if command in COMMANDS and not destination and not options.get("pattern"):
            self.cancel(self.app, task_ids({**options, **(arguments or {})}))
        return super().broadcast(command, arguments, destination, **options)  # type: ignore[misc]


def _bridged(control_class: type[Any]) -> type[Any]:
    return type(f"Bridged{control_class.__name__}", (BridgeControl, control_class), {})


def task_ids(arguments: Mapping[str, Any]) -> list[str]:
    """Return the ids in the arguments of a revoking command: one, or a collection of them."""
    found = arguments.get("task_id")
    if isinstance(found, str):
        return [found]
    return [one for one in found if isinstance(one, str)] if isinstance(found, list | tuple | set | frozenset) else []


class RevokeListener:
    """Hears what is broadcast to Celery's workers, and cancels what is revoked; answers nobody."""

    def __init__(self, app: Any, cancel: Cancel, name: str) -> None:
        """`name` is unique among all that listen."""
        self._app = app
        self._cancel = cancel
        self._name = name
        self._away = False
        self._stopping = False

    def stop(self) -> None:
        """Return from `run` soon; safe to call from a signal handler or another thread."""
        self._stopping = True

    def run(self) -> None:
        """Listen until `stop`; a broker that is away is tried again."""
        while not self._stopping:
            connection = self._app.connection_for_read()
            away = (*connection.recoverable_connection_errors, *connection.recoverable_channel_errors)
            try:
                with connection:
                    self._listen(connection)
            except (OSError, OperationalError, *away) as error:
                if not self._away:
                    log.warning("what other processes revoke is not heard: Celery's broker does not answer: %s", error)
                self._away = True
                self._pause()

    def _listen(self, connection: Any) -> None:
        node = self._app.control.mailbox.Node(self._name, channel=connection.channel())
        with node.listen(callback=self._received):
            log.info("listening for revoked tasks")
            self._away = False
            while not self._stopping:
                try:
                    connection.drain_events(timeout=LISTEN)
                except TimeoutError:
                    continue

    def _received(self, body: Any, _: Any) -> None:
        if not isinstance(body, Mapping) or body.get("method") not in COMMANDS or body.get("destination"):
            return
        arguments = body.get("arguments")
        found = task_ids(arguments) if isinstance(arguments, Mapping) else []
        if found:
            self._cancel(self._app, found)

    def _pause(self) -> None:
        until = time.monotonic() + LISTEN_AGAIN
        while not self._stopping and time.monotonic() < until:
            time.sleep(NAP)
