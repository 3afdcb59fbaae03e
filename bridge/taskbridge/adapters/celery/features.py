"""What tasks use of Celery that the bridge's worker does not offer yet."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from kombu.common import Broadcast
from kombu.utils.imports import symbol_by_name

from taskbridge.adapters.celery.addressing import Addressing
from taskbridge.adapters.celery.wire import PICKLE
from taskbridge.settings import Settings

DEFAULT_REQUEST = "celery.worker.request:Request"


@dataclass(frozen=True, slots=True)
class Finding:
    """A task, the feature that it relies on, what to do about it, and the feature's name in the scan's table."""

    task: str
    feature: str
    remedy: str
    name: str = ""

    def __str__(self) -> str:
        return f"{self.task} uses {self.feature}: {self.remedy}"


def tasks_of(app: Any, settings: Settings, service: str) -> list[str]:
    """Return the names of the registered tasks that belong to a service, in order."""
    addressing = Addressing(app, settings)
    names = []
    for name, task in app.tasks.items():
        if name.startswith("celery."):
            continue
        queue = queue_of(app, name, task)
        found = addressing.service(name, queue, (), {})
        if found is not None and found.name == service:
            names.append(name)
    return sorted(names)


def unsupported(app: Any, tasks: Iterable[str]) -> list[Finding]:
    """Return what stands in the way of executing these tasks from Kafka; nothing, when the list is empty."""
    findings: list[Finding] = []
    for name in tasks:
        task = app.tasks[name]
        findings.extend(Finding(name, text, remedy, feature) for feature, text, remedy in _features(app, name, task))
    return findings


def _features(app: Any, name: str, task: Any) -> Iterable[tuple[str, str, str]]:
    conf = app.conf
    # Binding a task has applied task_annotations and the task_default_* settings to it.
    if task.rate_limit and not conf.worker_disable_rate_limits:
        text = f"rate_limit={task.rate_limit!r}"
        yield "rate_limit", text, "remove the rate limit, or leave its service in mirror"
    priority = getattr(task, "priority", None) or conf.task_default_priority
    if priority:
        yield "priority", f"priority={priority!r}", "remove the priority, or leave its service in mirror"
    if (task.serializer or conf.task_serializer) in {"pickle", PICKLE}:
        remedy = "set serializer='json': who can write pickle to a topic can run anything"
        yield "pickle", "the pickle serializer", remedy
    scheme = str(conf.result_backend or "").split(":", 1)[0]
    if scheme in {"rpc", "amqp"} and not task.ignore_result:
        yield (
            "result_backend",
            f"the {scheme}:// result backend",
            "use one that every worker reaches, such as redis, or ignore_result=True",
        )
    if symbol_by_name(task.Request) is not symbol_by_name(DEFAULT_REQUEST):
        remedy = "move what it does into signals or into the task's own methods"
        yield "request_class", "a Request class of its own", remedy
    queue = app.amqp.queues.get(queue_of(app, name, task))
    if isinstance(queue, Broadcast) or getattr(getattr(queue, "exchange", None), "type", None) == "fanout":
        yield (
            "broadcast",
            f"the exchange {queue.exchange.name}, which broadcasts",
            "leave it out of TASKBRIDGE: it stays on Celery",
        )


def queue_of(app: Any, name: str, task: Any) -> str:
    """Return the queue that a plain `delay()` of the task uses."""
    options = {"queue": task.queue} if getattr(task, "queue", None) else {}
    route = app.amqp.router.route(options, name, (), {}, task)
    queue = route.get("queue")
    if queue is None:
        return route.get("routing_key") or app.conf.task_default_queue
    return queue if isinstance(queue, str) else str(queue.name)
