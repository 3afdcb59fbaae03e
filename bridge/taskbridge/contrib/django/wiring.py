"""
A bridge out of Django's settings and the environment.

`install` only leaves hooks behind, so that it may be called where the Celery app is made, before Django is configured.
What they need is built when the first message is dispatched, the first task runs, or a command asks for it.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import time
from collections.abc import Sequence
from functools import cached_property
from threading import RLock
from typing import TYPE_CHECKING, Any

import celery
import django
from celery import signals
from celery.local import Proxy
from django.conf import settings as django_settings

from taskbridge.adapters.celery.addressing import Addressing
from taskbridge.adapters.celery.bodies import connect_bodies
from taskbridge.adapters.celery.hook import BridgedAMQP, install_hook
from taskbridge.adapters.celery.observe import RunReporter, connect_observation
from taskbridge.adapters.celery.once import Once
from taskbridge.adapters.celery.options import TaskOptions
from taskbridge.adapters.celery.resend import CeleryResender
from taskbridge.adapters.celery.revoking import install_revoking
from taskbridge.adapters.kafka.observer import KafkaObserver
from taskbridge.adapters.kafka.producer import BestEffortProducer, ConfirmedProducer
from taskbridge.contrib.django.fences import Gates
from taskbridge.contrib.django.ledger import DjangoLedger
from taskbridge.contrib.django.outbox import TransactionalOutbox
from taskbridge.contrib.django.store import DjangoStore
from taskbridge.cutover import FlagCache, Stage
from taskbridge.dispatch import Dispatcher, Numbering
from taskbridge.dispatch.barrier import finish_all
from taskbridge.exceptions import ConfigurationError, TaskbridgeError
from taskbridge.settings import Settings

if TYPE_CHECKING:
    from taskbridge.adapters.monitoring.sharing import SharedCounts

log = logging.getLogger("taskbridge.wiring")

OLDEST = {"Python": (3, 11), "Celery": (5, 4), "Django": (4, 2)}
CELERY_BELOW = (5, 8)
"""The hook and the worker rest on parts of Celery that may change with any minor version."""


class Bridge:
    """
    Everything that one Celery app and one process need; nothing in it connects anywhere before it is used.

    Raises ConfigurationError when settings, environment or a task's options do not fit.
    """

    def __init__(self, app: Any) -> None:
        self.app = app
        self.settings = read_settings()
        self.store = DjangoStore(self.settings.database, self.settings.max_pending)
        self.stores = {self.settings.database: self.store}
        for service in self.settings.services.values():
            alias = service.outbox_database
            if alias and alias not in self.stores:
                place = f'TASKBRIDGE["services"]["{service.name}"]["outbox_database"]'
                self.stores[alias] = DjangoStore(alias, self.settings.max_pending, place)
        self.flags = FlagCache(
            self.store,
            {name: Stage.parse(service.floor) for name, service in self.settings.services.items()},
            time.monotonic,
            self.settings.flag_max_age,
            self.settings.flag_stale_after,
        )
        self.numbering = Numbering()
        self.confirmed = ConfirmedProducer(self.settings)
        self.best_effort = BestEffortProducer(self.settings)
        self.observer = KafkaObserver(self.best_effort, self.settings)
        self.addressing = Addressing(app, self.settings)
        self.addressing.check()
        self.resender = CeleryResender(app)
        self.dispatcher = Dispatcher(
            self.settings,
            self.flags,
            self.confirmed,
            self.best_effort,
            self.store,
            self.observer,
            self.numbering,
            resender=self.resender,
            callers=TransactionalOutbox(self.stores),
            gates=Gates(self.store, self.settings),
        )
        self.reporter = RunReporter(app, self.addressing, self.flags.get, self.observer, self.numbering)
        self.shared: SharedCounts | None = None
        self.share_counts()

    def share_counts(self) -> None:
        """Have what this process counts written to the folder that the environment names, if it names one."""
        if self.shared is not None or not os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
            return
        try:
            from taskbridge.adapters.monitoring.sharing import SharedCounts
            from taskbridge.contrib.django.metrics import counted
        except ImportError:
            log.warning("PROMETHEUS_MULTIPROC_DIR is set, but the package prometheus-client is not installed")
            return
        self.shared = SharedCounts(lambda: counted(self))

    @cached_property
    def ledger(self) -> DjangoLedger:
        """The executions of tasks with `once=True`."""
        return DjangoLedger(self.store.sessions)

    @cached_property
    def once(self) -> Once:
        """What runs the bodies of tasks with `once=True`."""
        return Once(self.ledger, self.settings.once_lease)

    @property
    def outbox_aliases(self) -> tuple[str, ...]:
        """The databases that may hold rows for the relay, that of the flags first."""
        return tuple(self.stores)

    def close(self) -> None:
        """Let go of what waits in this process, at its end."""
        finish_all()
        self.reporter.release()
        self.observer.flush()
        self.confirmed.close()
        self.best_effort.close()
        if self.shared is not None:
            self.shared.close()


_lock = RLock()
_bridges: dict[Any, Bridge] = {}


def install(app: Any) -> None:
    """
    Put the bridge into a Celery app: at any time before its first publish, and once however often it is called.

    Reads no settings yet. Raises ConfigurationError when the versions of Python, Celery or Django are not supported.
    """
    check_versions()
    install_hook(_itself(app), dispatcher_of)
    install_revoking(_itself(app), cancel_revoked)
    connect_observation(_reporter_of)
    connect_bodies(is_installed, _once_of, _needs_barrier)
    for signal in (signals.worker_process_shutdown, signals.worker_shutdown):
        signal.connect(_close_all, weak=False, dispatch_uid="taskbridge.close")


def bridge_of(app: Any) -> Bridge:
    """Return an app's bridge; raise ConfigurationError when it was not installed or its settings do not fit."""
    app = _itself(app)
    if not is_installed(app):
        raise ConfigurationError(
            f"taskbridge is not installed in the Celery app {app.main!r}: call taskbridge.install(app) where it is made"
        )
    bridge = _bridges.get(app)
    if bridge is None:
        with _lock:
            bridge = _bridges.get(app)
            if bridge is None:
                bridge = _bridges[app] = Bridge(app)
    return bridge


def dispatcher_of(app: Any) -> Dispatcher:
    """Return the dispatcher of an app that the bridge was installed in."""
    return bridge_of(app).dispatcher


def cancel_revoked(app: Any, task_ids: Sequence[str]) -> None:
    """Cancel what waits of these tasks; that the database does not answer is logged, because to revoke never raises."""
    from taskbridge.contrib.django.waiting import revoke

    try:
        bridge = bridge_of(app)
        revoke(bridge, task_ids, f"a revoke in {bridge.numbering.source}")
    except TaskbridgeError as error:
        log.warning("revoked tasks that wait with the bridge are not cancelled: %s", error)


def is_installed(app: Any) -> bool:
    """Return whether `install` was called with the app, or with the one that it was unpickled from."""
    return isinstance(_itself(app).amqp_cls, BridgedAMQP)


def read_settings() -> Settings:
    """Return the settings in Django's `TASKBRIDGE` and in `KAFKA_*`; raise ConfigurationError."""
    mapping = getattr(django_settings, "TASKBRIDGE", None)
    if mapping is None:
        raise ConfigurationError("Django's settings have no TASKBRIDGE: name at least one service there")
    return Settings.from_mapping(mapping, os.environ)


def check_versions() -> None:
    """Raise ConfigurationError unless Python, Celery and Django are of versions that this package is tested with."""
    found = {"Python": sys.version_info[:2], "Celery": _numbers(celery.__version__), "Django": django.VERSION[:2]}
    for name, oldest in OLDEST.items():
        if found[name] < oldest:
            raise ConfigurationError(
                f"taskbridge needs {name} {_dotted(oldest)} or later, and this is {_dotted(found[name])}"
            )
    if found["Celery"] >= CELERY_BELOW:
        raise ConfigurationError(
            f"this version of taskbridge supports Celery below {_dotted(CELERY_BELOW)}, and this is "
            f"{_dotted(found['Celery'])}: upgrade taskbridge, or pin Celery"
        )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def _itself(app: Any) -> Any:
    return app._get_current_object() if isinstance(app, Proxy) else app


def _reporter_of(app: Any) -> RunReporter | None:
    return bridge_of(app).reporter if is_installed(app) else None


def _once_of(app: Any) -> Once:
    return bridge_of(app).once


def _needs_barrier(app: Any) -> bool:
    """Return whether something in the project publishes by `barrier`, so that any task might."""
    declared = (getattr(task, "bridge", None) for task in app.tasks.values())
    if any(isinstance(options, TaskOptions) and options.publish == "barrier" for options in declared):
        return True
    try:
        return any(service.publish == "barrier" for service in read_settings().services.values())
    except ConfigurationError:
        # Every dispatch and every task that needs the settings says so; a worker of other tasks must start.
        return False


def _close_all(**_: Any) -> None:
    for bridge in list(_bridges.values()):
        bridge.close()
