"""Whether Celery's broker has nothing to do any more with a service, which may then be complete."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from taskbridge.adapters.celery.features import tasks_of
from taskbridge.adapters.celery.queues import depth
from taskbridge.adapters.kafka.observations import KafkaObservationLog
from taskbridge.contrib.django.rules import Condition, Standing
from taskbridge.contrib.django.transition import LIMIT
from taskbridge.observation import DispatchRow

if TYPE_CHECKING:
    from taskbridge.contrib.django.wiring import Bridge

SHOWN = 5
"""Tasks that a sentence names."""


def conditions(bridge: Bridge, service: str, standing: Standing) -> Sequence[Condition]:
    """
    Return what must be so before a service is complete, as far as Celery's side goes.

    Raises Unavailable when Celery's broker, Kafka or the database does not answer.
    """
    return (_no_task_stays(standing), _nothing_waits(bridge, service), _nothing_came(bridge, service))


def queues_of(bridge: Bridge, service: str) -> list[str]:
    """Return the Celery queues of a service: those that its settings name, and those that its tasks are routed to."""
    app = bridge.app
    names = set(bridge.settings.services[service].queues)
    for name in tasks_of(app, bridge.settings, service):
        task = app.tasks[name]
        options = {"queue": task.queue} if getattr(task, "queue", None) else {}
        queue = app.amqp.router.route(options, name, (), {}, task).get("queue")
        names.add(str(getattr(queue, "name", queue) or app.conf.task_default_queue))
    return sorted(names)


def _no_task_stays(standing: Standing) -> Condition:
    tasks = sorted(standing.pinned())
    if not tasks:
        return Condition("task flags", True, "no task has a stage of its own")
    shown = ", ".join(tasks[:SHOWN]) + (f" and {len(tasks) - SHOWN} more" if len(tasks) > SHOWN else "")
    return Condition(
        "task flags",
        False,
        f"{shown} has a stage of its own: let the service decide first with "
        f"`taskbridge cutover {standing.flag.service} clear --task {tasks[0]}`",
    )


def _nothing_waits(bridge: Bridge, service: str) -> Condition:
    queues = queues_of(bridge, service)
    shown = ", ".join(queues)
    waiting = depth(bridge.app, queues)
    if waiting:
        return Condition(
            "celery",
            False,
            f"Celery's broker holds {waiting:,} messages in {shown}: let its workers finish them, or move them with "
            f"`taskbridge drain {service} --to kafka`",
        )
    return Condition("celery", True, f"nothing waits in Celery's {shown}")


def _nothing_came(bridge: Bridge, service: str) -> Condition:
    wanted = bridge.settings.quiet_before_complete
    now = time.time()
    last = max(_moved_at(bridge, service), _sent_to_celery(bridge, service, now - wanted))
    ago = now - last
    sentence = f"Celery's broker received nothing of {service} for {_span(ago)}"
    if ago < wanted:
        sentence = f"Celery's broker may have received something of {service} {_span(ago)} ago"
    return Condition("quiet", ago >= wanted, f"{sentence}, and {_span(wanted)} are asked for", overridable=True)


def _moved_at(bridge: Bridge, service: str) -> float:
    """Return when the service last changed its stage or percentage, in seconds since the epoch."""
    with bridge.store.sessions.transaction(LIMIT) as cursor:
        cursor.execute(
            "SELECT max(at) FROM taskbridge_transition WHERE service = %s AND task = '' AND ("
            " before -> 'stage' IS DISTINCT FROM after -> 'stage'"
            " OR before -> 'basis_points' IS DISTINCT FROM after -> 'basis_points')",
            (service,),
        )
        at: datetime | None = cursor.fetchone()[0]
    return at.astimezone(UTC).timestamp() if at else 0.0


def _sent_to_celery(bridge: Bridge, service: str, since: float) -> float:
    """Return when something of a service was last seen on its way to Celery since then, 0 for never."""
    log: Any = KafkaObservationLog(bridge.settings)
    last = 0.0
    for batch in log.read(service, since):
        for row in batch.rows:
            if isinstance(row, DispatchRow) and row.route == "celery":
                last = max(last, row.at)
    return last


def _span(seconds: float) -> str:
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{max(seconds, 0.0):.3g} seconds"
