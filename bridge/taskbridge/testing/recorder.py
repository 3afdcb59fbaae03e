"""What a project's code dispatches, by the road that each message would take."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from threading import Lock
from typing import Any, Literal

from taskbridge.cutover import Flag, FlagCache, Stage, target
from taskbridge.dispatch import Dispatcher, Outgoing
from taskbridge.exceptions import ConfigurationError
from taskbridge.observation import DispatchRow
from taskbridge.settings import Settings
from taskbridge.testing.doubles import FakeFlags, FakePending, FakePublisher, RecordingObserver

Road = Literal["celery", "kafka", "delayed", "outbox"]


@dataclass(frozen=True, slots=True)
class Dispatched:
    """
    One message.

    `road` is where it goes: to Celery's broker, to Kafka, or into one of the tables `delayed` (until `due`) and
    `outbox`. `copied` says that a copy goes to the shadow topic. `service` and `key` are empty for what the bridge
    leaves alone. `fallback` says why a message for Kafka goes to Celery, and is else empty.
    """

    task: str
    task_id: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    road: Road = "celery"
    service: str = ""
    key: str = ""
    copied: bool = False
    due: datetime | None = None
    fallback: str = ""


@contextmanager
def recorded(
    app: Any, stages: Mapping[str, str] | None = None, settings: Settings | None = None
) -> Iterator[list[Dispatched]]:
    """
    Yield a list that grows with every message that is dispatched; none leaves the process.

    `app` is the Celery app that `taskbridge.install` was called with. `stages` gives services their stage (`mirror`,
    `live`, `live 25%`); the others are `off`. Neither broker nor Kafka, database or result backend is needed, and
    `task_always_eager` does not hold. What is dispatched within a database transaction is listed at once, whether the
    transaction commits or not. `settings` are those of Django's `TASKBRIDGE` unless given.

    Raises ConfigurationError when the bridge is not installed in the app, or settings or stages do not fit.
    """
    if not hasattr(app.amqp, "dispatcher_factory"):
        raise ConfigurationError(f"taskbridge is not installed in the Celery app {app.main!r}: call taskbridge.install")
    settings = settings or _settings()
    dispatcher = _Recording(settings, _flags(settings, stages or {}))
    amqp, backend, conf = app.amqp, app.backend, app.conf
    factory, sender, eager = amqp.dispatcher_factory, amqp.__dict__.get("send_task_message"), conf.task_always_eager
    amqp.dispatcher_factory = lambda _: dispatcher
    recorder = _Recorder(amqp._create_task_sender(), dispatcher)
    amqp.__dict__["send_task_message"] = recorder.send
    conf.task_always_eager = False
    # It would subscribe to the results.
    backend.on_task_call = lambda *_, **__: None
    try:
        yield recorder.dispatched
    finally:
        del backend.on_task_call
        conf.task_always_eager = eager
        amqp.dispatcher_factory = factory
        if sender is None:
            del amqp.__dict__["send_task_message"]
        else:
            amqp.__dict__["send_task_message"] = sender


def _settings() -> Settings:
    from django.conf import settings  # noqa: PLC0415 - who gives settings of his own needs no Django

    mapping = getattr(settings, "TASKBRIDGE", None)
    if mapping is None:
        raise ConfigurationError("Django's settings have no TASKBRIDGE: name at least one service there")
    return Settings.from_mapping(mapping, {"KAFKA_BOOTSTRAP_SERVERS": "localhost:1"})


def _flags(settings: Settings, stages: Mapping[str, str]) -> FlagCache:
    flags = FakeFlags()
    for service, words in stages.items():
        settings.service(service)
        name, _, percent = words.partition(" ")
        stage = Stage.parse(name)
        try:
            share = float(percent.rstrip("%")) if percent else None
        except ValueError:
            raise ConfigurationError(f"stage {words!r}: write the percentage as in `live 25%`") from None
        flags.set(service, stage, target(stage, 100.0 if share is None and stage in {"live", "shadow"} else share))
    return FlagCache(flags, dict.fromkeys(settings.services, Stage.OFF), time.monotonic)


class _Recording(Dispatcher):
    """A dispatcher among doubles, which takes down the last message."""

    def __init__(self, settings: Settings, flags: FlagCache) -> None:
        self._published, self._copied = FakePublisher(), FakePublisher()
        self._waiting, self._observed = FakePending(), RecordingObserver()
        super().__init__(
            settings, flags, self._published, self._copied, self._waiting, self._observed, callers=self._waiting
        )
        self.last: dict[str, Any] = {}

    def dispatch(self, flag: Flag, outgoing: Outgoing) -> None:
        self.last = {"service": outgoing.service.name, "key": outgoing.key}
        self._published.records.clear()
        self._copied.records.clear()
        self._waiting.delayed.clear()
        self._waiting.outboxed.clear()
        self._observed.batches.clear()
        super().dispatch(flag, replace(outgoing, to_celery=lambda: None))
        if self._published.records:
            self.last["road"] = "kafka"
        elif self._waiting.delayed:
            self.last |= {"road": "delayed", "due": self._waiting.delayed[0].due}
        elif self._waiting.outboxed:
            self.last["road"] = "outbox"
        self.last["copied"] = bool(self._copied.records)
        for row in self._observed.rows:
            if isinstance(row, DispatchRow):
                self.last["fallback"] = row.fallback


class _Recorder:
    """A task sender that calls the bridge's own, and keeps what came of it."""

    def __init__(self, send: Callable[..., Any], dispatcher: _Recording) -> None:
        self.dispatched: list[Dispatched] = []
        self._send = send
        self._dispatcher = dispatcher
        self._lock = Lock()

    def send(self, producer: Any, name: str, message: Any, **options: Any) -> Any:
        """Stand in for Celery's sender of task messages."""
        body = message.body
        args, kwargs = (body["args"], body["kwargs"]) if isinstance(body, Mapping) else body[:2]
        task_id = body["id"] if isinstance(body, Mapping) else message.headers["id"]
        with self._lock:
            self._dispatcher.last = {}
            result = self._send(_NoBroker(producer), name, message, **options)
            found = self._dispatcher.last
            self.dispatched.append(Dispatched(name, task_id, tuple(args or ()), dict(kwargs or {}), **found))
        return result


class _NoBroker:
    """A producer of Celery's that serializes as it always does, and publishes nothing."""

    def __init__(self, producer: Any) -> None:
        self._producer = producer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._producer, name)

    def publish(self, body: Any, **options: Any) -> None:
        """Do nothing."""
