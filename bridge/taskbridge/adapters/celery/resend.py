"""Messages that waited with the bridge, back to Celery's broker."""

from __future__ import annotations

from typing import Any

from kombu.exceptions import OperationalError

from taskbridge.adapters.celery.wire import as_published, decode_json, publish_options
from taskbridge.exceptions import BrokerUnavailable, MalformedRecord
from taskbridge.record import Message


class CeleryResender:
    """
    Publishes messages as their dispatch would have, past the hook: exchange, routing key, priority and all.

    One `CeleryPublisher` may be used from several threads.
    """

    def __init__(self, app: Any) -> None:
        self._app = app

    def publish(self, message: Message) -> None:
        """Return once the broker took the message; raise BrokerUnavailable, or MalformedRecord when it is broken."""
        try:
            headers = decode_json(message.headers)
            options = publish_options(decode_json(message.properties))
            compressed = "compression" in headers
            body = as_published(message.body, message.content_encoding, compressed)
        except (TypeError, ValueError, LookupError) as error:
            raise MalformedRecord(
                f"message {message.task_id} of {message.task} cannot be sent again: {error}"
            ) from error
        queue = self._queue(options["exchange"], options["routing_key"])
        try:
            with self._app.amqp.producer_pool.acquire(block=True) as producer:
                producer.publish(
                    body,
                    content_type=message.content_type,
                    content_encoding=message.content_encoding,
                    compression="",
                    headers=headers,
                    declare=[] if queue is None else [queue],
                    retry=self._app.conf.task_publish_retry,
                    retry_policy=dict(self._app.conf.task_publish_retry_policy),
                    **options,
                )
        except self._errors() as error:
            raise BrokerUnavailable(
                f"Celery's broker did not take message {message.task_id} of {message.task}: {error}"
            ) from error

    def _errors(self) -> tuple[type[Exception], ...]:
        connection = self._app.connection_for_write()
        transport = (*connection.recoverable_connection_errors, *connection.recoverable_channel_errors)
        return (OperationalError, OSError, *transport)

    def _queue(self, exchange: str, routing_key: str) -> Any:
        """Return the queue to declare, as a dispatch to it does: a worker may not have come up yet."""
        queues = self._app.amqp.queues
        if exchange == "":
            try:
                return queues[routing_key]
            except KeyError:
                return None
        for queue in queues.values():
            if queue.exchange is not None and queue.exchange.name == exchange and queue.routing_key == routing_key:
                return queue
        return None
