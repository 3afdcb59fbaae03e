"""Records on their way, with what a test does not care about filled in."""

from __future__ import annotations

import json
from typing import Any

from taskbridge.record import Headers
from taskbridge.worker.entry import Entry, header, size_of
from taskbridge.worker.tracker import PartitionTracker


def headers(task: str = "orders.place", task_id: str = "id-1", retries: int = 0, **more: str) -> Headers:
    """Return the headers of a record; an underscore in a name stands for a hyphen."""
    celery = {"task": task, "id": task_id, "retries": retries}
    found = {
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "task": task,
        "id": task_id,
        "celery-headers": json.dumps(celery),
        "celery-properties": "{}",
        **{name.replace("_", "-"): value for name, value in more.items()},
    }
    return [(name, value.encode()) for name, value in found.items()]


def entry(offset: int = 5, tracker: PartitionTracker | None = None, **changed: Any) -> Entry:
    """Return an entry of partition 2 whose offset its tracker has fetched."""
    tracker = tracker or PartitionTracker(offset)
    tracker.fetched(offset)
    value = changed.pop("value", b"[[], {}, {}]")
    found = changed.pop("headers", None) or headers()
    return Entry(tracker, 2, offset, b"a-key", value, found, header(found, "task"), size_of(value, found), **changed)
