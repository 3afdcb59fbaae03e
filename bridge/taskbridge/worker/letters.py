"""The records that the supervisor itself writes: dead letters, and records given back to their topic."""

from __future__ import annotations

from taskbridge.record import Headers, Record
from taskbridge.worker.channel import Verdict
from taskbridge.worker.entry import Entry

TRACEBACK_BYTES = 8_192
"""Most bytes of a traceback in a dead letter; its end says most, so its beginning is cut."""


def dead_letter(entry: Entry, verdict: Verdict, topic: str, now: float) -> Record:
    """
    Return the dead letter for a record: itself, with why it is here and where it came from in headers.

    `dlq-reason` is one word, `dlq-detail` one sentence, `dlq-time` seconds since the epoch.
    """
    return _as_it_came(entry).with_headers(
        dlq_reason=verdict.reason,
        dlq_detail=verdict.detail,
        dlq_traceback=verdict.traceback.encode()[-TRACEBACK_BYTES:].decode(errors="replace"),
        dlq_topic=topic,
        dlq_partition=str(entry.partition),
        dlq_offset=str(entry.offset),
        dlq_time=f"{now:.3f}",
    )


def given_back(entry: Entry) -> Record:
    """Return the record as it is put at the end of its topic to run again, with its deliveries counted."""
    return Record(entry.key or b"", entry.value or b"", counted(entry))


def counted(entry: Entry) -> Headers:
    """Return the record's headers with one more delivery."""
    return _as_it_came(entry).with_headers(bridge_deliveries=str(entry.deliveries + 1)).headers


def _as_it_came(entry: Entry) -> Record:
    headers = [(name, raw if isinstance(raw, bytes) else b"") for name, raw in entry.headers]
    return Record(entry.key or b"", entry.value or b"", headers)
