"""
The hook in Celery's publishing.

`delay`, `apply_async`, `send_task`, canvas, retries and beat all reach the task sender that `app.amqp` makes. The
sender still runs as it is, with its signals, events and headers; only the producer that it publishes through is one
that asks the dispatcher where the message goes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from celery.utils.time import maybe_make_aware
from kombu.common import Broadcast
from kombu.exceptions import OperationalError
from kombu.utils.imports import symbol_by_name
from kombu.utils.objects import cached_property

from taskbridge.adapters.celery.addressing import Addressing
from taskbridge.adapters.celery.borrowing import BorrowedProducer, lend_producers
from taskbridge.adapters.celery.countdowns import CountdownMessage, noting_countdowns
from taskbridge.adapters.celery.wire import PICKLE, Serialized, as_bytes, encode_json, encode_properties, queue_name
from taskbridge.cutover import Flag, Stage
from taskbridge.dispatch import Dispatcher, Outgoing
from taskbridge.exceptions import ConfigurationError, PublishError, Unavailable
from taskbridge.record import Message
from taskbridge.settings import ServiceSettings

DispatcherFactory = Callable[[Any], Dispatcher]
"""Returns the dispatcher of a Celery app; called at the first publish. Picklable where workers are spawned."""


_BY_CELERY = frozenset({Stage.MIRROR, Stage.SHADOW})
"""Stages in which every message goes to Celery's broker, so that its producer is needed anyway."""


def install_hook(app: Any, dispatcher_factory: DispatcherFactory) -> None:
    """
    Make all that `app` publishes pass its dispatcher.

    For this app only, at any time, and once however often it is called. The app's own AMQP class stays in use.
    """
    if isinstance(app.amqp_cls, BridgedAMQP):
        return
    app.amqp_cls = BridgedAMQP(app.amqp_cls, dispatcher_factory)
    amqp = app.__dict__.get("amqp")
    if amqp is not None:
        # Others may hold the object already, so it changes its class rather than being replaced.
        amqp.__class__ = _bridged(type(amqp))
        amqp.dispatcher_factory = dispatcher_factory
        for made in ("send_task_message", "create_task_message"):
            amqp.__dict__.pop(made, None)
        lend_producers(app)


@dataclass(frozen=True)
class BridgedAMQP:
    """
    What stands in `app.amqp_cls`.

    An object rather than a class, so that an app which is pickled for a spawned worker process carries the hook along.
    """

    original: Any
    dispatcher_factory: DispatcherFactory

    def __call__(self, app: Any) -> Any:
        amqp = _bridged(symbol_by_name(self.original))(app)
        amqp.dispatcher_factory = self.dispatcher_factory
        lend_producers(app)
        return amqp


class BridgeAMQP:
    """Mixed into an app's AMQP class."""

    app: Any
    dispatcher_factory: DispatcherFactory

    @cached_property
    def create_task_message(self) -> Callable[..., Any]:
        """What makes task messages."""
        return noting_countdowns(super().create_task_message)  # type: ignore[misc]

    def _create_task_sender(self) -> Callable[..., Any]:
        send = super()._create_task_sender()  # type: ignore[misc]
        return _TaskSender(self, send).send


def _bridged(amqp_class: type[Any]) -> type[Any]:
    return type(f"Bridged{amqp_class.__name__}", (BridgeAMQP, amqp_class), {})


class _TaskSender:
    """The task sender of one app."""

    def __init__(self, amqp: Any, send: Callable[..., Any]) -> None:
        self.app = amqp.app
        self._amqp = amqp
        self._send = send
        self._default_queue = self.app.conf.task_default_queue
        self._parts: tuple[Dispatcher, Addressing] | None = None

    def send(
        self,
        producer: Any,
        name: str,
        message: Any,
        exchange: Any = None,
        routing_key: str | None = None,
        queue: Any = None,
        **options: Any,
    ) -> Any:
        """Publish a task message as Celery's own sender does, by the road that the dispatcher decides."""
        dispatcher, addressing = self._parts or self._connect()
        args, kwargs = arguments(message.body)
        queue_of = queue_name(exchange, routing_key, queue, self._default_queue)
        service = addressing.service(name, queue_of, args, kwargs)
        if service is not None:
            flag = dispatcher.flag(service.name, name)
            if flag.stage is not Stage.OFF or flag.fence is not None:
                if flag.stage in _BY_CELERY and isinstance(producer, BorrowedProducer):
                    producer = producer.taken()
                producer = _BridgedProducer(
                    producer,
                    _Publish(
                        self,
                        producer,
                        dispatcher,
                        addressing,
                        service,
                        flag,
                        name,
                        message.body,
                        queue or queue_of,
                        isinstance(message, CountdownMessage),
                    ),
                )
                return self._send(
                    producer, name, message, exchange=exchange, routing_key=routing_key, queue=queue, **options
                )
        if isinstance(producer, BorrowedProducer):
            producer = producer.taken()
        return self._send(producer, name, message, exchange=exchange, routing_key=routing_key, queue=queue, **options)

    def _connect(self) -> tuple[Dispatcher, Addressing]:
        dispatcher = self._amqp.dispatcher_factory(self.app)
        self._parts = dispatcher, Addressing(self.app, dispatcher.settings)
        return self._parts

    def is_fanout(self, queue: Any) -> bool:
        """Return whether every worker gets what is sent to a queue, given itself or by name."""
        if isinstance(queue, str):
            queue = self._amqp.queues.get(queue)
        return isinstance(queue, Broadcast) or getattr(getattr(queue, "exchange", None), "type", None) == "fanout"


class _BridgedProducer:
    """A kombu producer whose task message is dispatched; other publishes, such as events, pass through."""

    __slots__ = ("_producer", "_publish")

    def __init__(self, producer: Any, publish: _Publish) -> None:
        self._producer = producer
        self._publish = publish

    def __getattr__(self, name: str) -> Any:
        return getattr(self._producer, name)

    @property
    def connection(self) -> Any:
        """The producer's connection."""
        return self._producer.connection

    def revive(self, channel: Any) -> None:
        """Revive the producer after its connection was lost."""
        self._producer.revive(channel)

    def publish(self, body: Any, **options: Any) -> Any:
        """Publish by the decided road; raise kombu's OperationalError when that fails."""
        if body is self._publish.body:
            return self._publish(options)
        return self._producer.publish(body, **options)


@dataclass(slots=True)
class _Publish:
    """The publishing of one task message, which Celery may attempt more than once."""

    sender: _TaskSender
    producer: Any
    dispatcher: Dispatcher
    addressing: Addressing
    service: ServiceSettings
    flag: Flag
    name: str
    body: Any
    queue: Any
    relative: bool

    def __call__(self, options: dict[str, Any]) -> Any:
        producer = self.producer
        headers = options.get("headers")
        if headers is None:
            headers = options["headers"] = {}
        compression = options.get("compression")
        payload, content_type, content_encoding = producer._prepare(
            self.body,
            options.get("serializer"),
            options.get("content_type"),
            options.get("content_encoding"),
            producer.compression if compression is None else compression,
            headers,
        )
        value = as_bytes(payload, content_encoding)
        # Task protocol 1 has everything in the body.
        identity = headers if "id" in headers else self.body
        task_id = identity["id"]
        eta = identity.get("eta")
        due = 0.0 if eta is None else self._due(eta)

        def to_celery() -> Any:
            prepared = {
                "serializer": None,
                "compression": "",
                "content_type": content_type,
                "content_encoding": content_encoding,
            }
            body = Serialized(payload) if isinstance(payload, str) else payload
            return producer.publish(body, **(options | prepared))

        def message() -> Message:
            return Message(
                task=self.name,
                task_id=task_id,
                body=value,
                content_type=content_type,
                content_encoding=content_encoding,
                headers=encode_json(headers).encode(),
                properties=encode_properties(options),
            )

        def unsupported() -> str:
            if options.get("priority"):
                return "priority"
            if content_type == PICKLE:
                return "pickle"
            if due is None:
                return "eta"
            return "fanout" if self.sender.is_fanout(self.queue) else ""

        args, kwargs = arguments(self.body)
        outgoing = Outgoing(
            service=self.service,
            task=self.name,
            task_id=task_id,
            retries=identity.get("retries") or 0,
            nesting=headers.get("replaced_task_nesting") or 0,
            key=self.addressing.key(self.service, self.name, args, kwargs, task_id),
            body=value,
            to_celery=to_celery,
            message=message,
            unsupported=unsupported,
            due=due or 0.0,
            traceparent=headers.get("traceparent"),
            countdown=max(0.0, due - time.time()) if due and self.relative else None,
            publish=self.addressing.publish(self.service, self.name),
        )
        try:
            return self.dispatcher.dispatch(self.flag, outgoing)
        except (PublishError, Unavailable, ConfigurationError) as error:
            # What callers, and Celery's own retries of callbacks, expect of a publish that failed.
            raise OperationalError(str(error)) from error

    def _due(self, eta: str) -> float | None:
        """Return an ETA in seconds since the epoch, or None for what only Celery may understand."""
        try:
            moment = datetime.fromisoformat(eta)
            if moment.tzinfo is None:
                moment = maybe_make_aware(moment, self.sender.app.timezone)
            return float(moment.timestamp())
        except (TypeError, ValueError, OverflowError):
            return None


def arguments(body: Any) -> tuple[Sequence[Any], Mapping[str, Any]]:
    """Return the arguments in the body of a task message, of task protocol 1 or 2."""
    if isinstance(body, Mapping):
        return body.get("args") or (), body.get("kwargs") or {}
    return body[0] or (), body[1] or {}
