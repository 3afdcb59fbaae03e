"""The audit, read over the bridge's own connection."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from taskbridge.contrib.django.store import WRITE_LIMIT, DjangoStore

COLUMNS = (
    "id",
    "at",
    "service",
    "task",
    "action",
    "who",
    "why",
    "override",
    "verdict",
    "request_id",
    "before",
    "after",
)


def transitions(
    store: DjangoStore, service: str = "", since: datetime | None = None, limit: int = 50, before: int | None = None
) -> list[dict[str, Any]]:
    """
    Return the newest transitions as JSON types: of one service, or of all for an empty name.

    `since` is an aware datetime; `before` is an id, for those older than it. Raises StoreUnavailable.
    """
    with store.sessions.transaction(WRITE_LIMIT) as cursor:
        cursor.execute(
            f"SELECT {', '.join(COLUMNS)} FROM taskbridge_transition"  # noqa: S608
            " WHERE (%s = '' OR service = %s) AND (%s::timestamptz IS NULL OR at >= %s)"
            " AND (%s::bigint IS NULL OR id < %s) ORDER BY id DESC LIMIT %s",
            (service, service, since, since, before, before, limit),
        )
        rows = cursor.fetchall()
    return [_document(dict(zip(COLUMNS, row, strict=True))) for row in rows]


def _document(row: dict[str, Any]) -> dict[str, Any]:
    return row | {
        "at": row["at"].astimezone(UTC).isoformat(),
        "verdict": _json(row["verdict"]),
        "before": _flag(_json(row["before"])),
        "after": _flag(_json(row["after"])),
    }


def _json(value: Any) -> Any:
    """Return a jsonb column, which drivers hand over as text or as what it means."""
    return json.loads(value) if isinstance(value, str) else value


def _flag(found: Mapping[str, Any]) -> dict[str, Any]:
    shown = {"stage": found["stage"], "percent": found["basis_points"] / 100, "epoch": found["epoch"]}
    shown["hold"] = found.get("hold", False)
    return shown | ({"cleared": found["cleared"]} if "cleared" in found else {})
