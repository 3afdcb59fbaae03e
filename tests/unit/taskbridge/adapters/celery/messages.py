"""Records as the bridge writes them, made by Celery's own message builder."""

from __future__ import annotations

from typing import Any

from kombu.compression import compress
from kombu.serialization import dumps

from taskbridge.adapters.celery.wire import as_bytes, encode_json
from taskbridge.record import Message, Record, Stamp, encode
from taskbridge.worker.channel import Obituary, WorkItem


def message_of(
    app: Any, task: str, *args: Any, protocol: int = 2, serializer: str = "json", compression: str = "", **options: Any
) -> Message:
    """Return the message of a call with these arguments."""
    task_id = options.pop("task_id", "id-1")
    build = app.amqp.as_task_v2 if protocol == 2 else app.amqp.as_task_v1
    built = build(task_id, task, args, options.pop("kwargs", {}), **options)
    content_type, content_encoding, payload = dumps(built.body, serializer=serializer)
    body, headers = as_bytes(payload, content_encoding), built.headers
    if compression:
        body, headers["compression"] = compress(body, compression)
    properties = {**built.properties, "delivery_info": {"exchange": "", "routing_key": "orders"}}
    return Message(
        task, task_id, body, content_type, content_encoding,
        encode_json(headers).encode(), encode_json(properties).encode(),
    )  # fmt: skip


def item_of(message: Message, obituary: Obituary | None = None, **more: str) -> WorkItem:
    """Return the record of a message as an executor is given it; `more` are headers."""
    record: Record = encode(message, message.task_id, Stamp("kafka", 4, "host:1:a", 9)).with_headers(**more)
    return WorkItem(0, record.value, record.headers, 2, 5, obituary)
