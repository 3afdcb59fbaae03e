"""What the facts mean: features, findings and suggestions for every task, and for the project."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from taskbridge.scan.behaviours import BEHAVIOURS, Level
from taskbridge.scan.effects import EffectReader, Effects
from taskbridge.scan.facts import App, Call, Place, Sight, Task, Unreadable
from taskbridge.scan.keys import Key, count_candidates, suggest_key
from taskbridge.scan.modules import Project
from taskbridge.scan.services import Service, group, key_patterns
from taskbridge.scan.survey import DISPATCHES, SIGNATURES, Survey

DEFAULT_VISIBILITY = 3_600.0
"""Seconds after which Redis hands out a message again, when nothing else is configured."""

_OF_OPTIONS = {
    "autoretry_for": "retry",
    "max_retries": "retry",
    "default_retry_delay": "retry",
    "retry_backoff": "retry",
    "time_limit": "time_limit",
    "soft_time_limit": "soft_time_limit",
    "acks_late": "acks_late",
    "reject_on_worker_lost": "reject_on_worker_lost",
    "ignore_result": "ignore_result",
    "serializer": "serializer",
    "compression": "compression",
    "track_started": "track_started",
    "expires": "expires",
    "throws": "throws",
    "bind": "bind",
    "base": "base_class",
    "rate_limit": "rate_limit",
    "priority": "priority",
    "Request": "request_class",
    "route_priority": "priority_option",
}
"""Options of a task, and the feature that each is."""

_OF_CALLS = {
    "countdown": "eta",
    "eta": "eta",
    "expires": "expires",
    "priority": "priority_option",
    "queue": "queue_option",
    "exchange": "queue_option",
    "routing_key": "queue_option",
    "connection": "publish_option",
    "producer": "publish_option",
    "publisher": "publish_option",
    "retry": "publish_option",
    "retry_policy": "publish_option",
    "serializer": "serializer",
    "compression": "compression",
    "headers": "headers",
    "shadow": "headers",
    "link": "link",
    "link_error": "link",
    "ignore_result": "ignore_result",
    "task_id": "task_id",
    "time_limit": "time_limit",
    "soft_time_limit": "soft_time_limit",
}
"""Options of a call, and the feature that each is."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A feature that does not behave the same on Kafka: where, how, and what to do where it stops a task."""

    feature: str
    text: str
    place: Place
    remedy: str = ""
    task: str = ""

    @property
    def level(self) -> Level:
        """How much it matters."""
        return BEHAVIOURS[self.feature].level

    @property
    def sentence(self) -> str:
        """What becomes of it."""
        return BEHAVIOURS[self.feature].sentence


@dataclass(frozen=True, slots=True)
class Publish:
    """The suggested publish mode of a task, and why."""

    mode: Literal["confirm", "barrier", "outbox"]
    reason: str
    place: Place | None = None


@dataclass(frozen=True, slots=True)
class Judged:
    """One task with everything that the scan says of it."""

    task: Task
    service: str
    features: tuple[str, ...]
    findings: tuple[Finding, ...]
    key: Key | None
    effects: Effects
    publish: Publish
    calls: tuple[Call, ...]
    schedules: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Result:
    """The outcome of a scan."""

    app: App | None
    tasks: tuple[Judged, ...]
    findings: tuple[Finding, ...]
    services: tuple[Service, ...]
    files: int
    unreadable: tuple[Unreadable, ...] = field(default_factory=tuple)

    def mapping(self, service: Service) -> dict[str, object]:
        """Return what stands in `TASKBRIDGE["services"]` for a suggested service."""
        keys = {
            item.task.name: item.key.argument
            for item in self.tasks
            if item.key is not None and item.key.confidence != "low"
        }
        found = key_patterns(service.tasks, keys)
        return {**service.mapping, **({"keys": found} if found else {})}

    def only(self, names: Collection[str]) -> Result:
        """Return the part that concerns these services; what concerns the project as a whole stays."""
        return replace(
            self,
            tasks=tuple(item for item in self.tasks if item.service in names),
            services=tuple(service for service in self.services if service.name in names),
        )

    def count(self, level: Level) -> int:
        """Return how many findings are of a level."""
        every = [*self.findings, *(finding for item in self.tasks for finding in item.findings)]
        return sum(finding.level is level for finding in every)


def judge(
    project: Project,
    seen: Survey,
    tasks: Sequence[Task],
    app: App | None = None,
    chosen: Mapping[str, str] | None = None,
    *,
    by_queue: bool = True,
) -> Result:
    """
    Return what the scan says of these tasks.

    `chosen` are the services of the settings, by task; the others go by queue, or by package.
    """
    known = _Known(tasks, seen)
    services = group(tasks, app.default_queue if app is not None else "", chosen, by_queue=by_queue)
    effects = EffectReader(project)
    judged = []
    for service in services:
        siblings = count_candidates(service.tasks)
        for task in service.tasks:
            calls = known.calls.get(task.name, [])
            reach = effects.of(task.code)
            schedules = () if app is None else tuple(item.entry for item in app.schedules if item.task == task.name)
            findings = _findings(task, calls, seen.uses.get(task.code, ()), reach, app)
            features = {finding.feature for finding in findings} | set(_features(task, calls, seen.uses, schedules))
            judged.append(
                Judged(
                    task=task,
                    service=service.name,
                    features=tuple(sorted(features)),
                    findings=tuple(sorted(findings, key=_order)),
                    key=suggest_key(task, [call for call in calls if call.how != "apply"], siblings),
                    effects=reach,
                    publish=_publish(calls),
                    calls=tuple(sorted(calls, key=lambda call: call.place)),
                    schedules=schedules,
                )
            )
    return Result(
        app=app,
        tasks=tuple(sorted(judged, key=lambda item: (item.service, item.task.name))),
        findings=tuple(sorted(_of_project(seen, known, complete=app is not None), key=_order)),
        services=tuple(services),
        files=len(project.modules),
        unreadable=project.unreadable,
    )


class _Known:
    """Calls by the task that they dispatch."""

    def __init__(self, tasks: Sequence[Task], seen: Survey) -> None:
        self.codes = {task.code for task in tasks}
        by_code = {task.code.removesuffix(".run"): task.name for task in tasks}
        by_code.update({task.code: task.name for task in tasks})
        names = {task.name for task in tasks}
        self.calls: dict[str, list[Call]] = {}
        self.unregistered: list[Call] = []
        for call in seen.calls:
            name = call.target if call.by_name else by_code.get(call.target, "")
            if name in names:
                self.calls.setdefault(name, []).append(call)
            elif call.by_name and call.how == "send_task" and not name.startswith("celery."):
                self.unregistered.append(call)


def _features(
    task: Task, calls: Iterable[Call], uses: Mapping[str, Sequence[Sight]], schedules: Sequence[str]
) -> Iterable[str]:
    for option in task.options:
        if option in _OF_OPTIONS:
            yield _OF_OPTIONS[option]
    for sight in uses.get(task.code, ()):
        yield sight.kind
    for call in calls:
        yield from (_OF_CALLS[option] for option in call.options if option in _OF_CALLS)
        if call.by_name and call.how == "send_task":
            yield "by_name"
        if call.how == "apply":
            yield "apply"
        if call.where & {"on_commit"} or call.how.endswith("_on_commit"):
            yield "on_commit"
        if call.how in {"map", "starmap", "chunks"}:
            yield "canvas"
    if schedules:
        yield "beat"


def _findings(
    task: Task, calls: Iterable[Call], uses: Iterable[Sight], effects: Effects, app: App | None
) -> list[Finding]:
    found = [Finding(stop.feature, stop.text, task.place, stop.remedy, task.name) for stop in task.stops]
    stopped = {finding.feature for finding in found}
    for option, given in task.options.items():
        feature = _OF_OPTIONS.get(option, "")
        if feature == "serializer" and given in {"pickle", "application/x-python-serialize"}:
            feature = "pickle"
        if not feature or feature in stopped or BEHAVIOURS[feature].level is Level.SAME:
            continue
        # Where there is an app, it knows better whether what a task declares is in force.
        if app is None or BEHAVIOURS[feature].level is not Level.STOPS:
            found.append(Finding(feature, f"{option}={given!r}", task.place, task=task.name))
    if not task.options.get("acks_late"):
        found.append(Finding("acks_early", "no acks_late", task.place, task=task.name))
    found.extend(
        Finding(sight.kind, sight.text, sight.place, task=task.name)
        for sight in [*uses, *(Sight("durable_atomic", item.text, item.place) for item in effects.durable)]
        if BEHAVIOURS[sight.kind].level is not Level.SAME
    )
    limit = app.visibility_timeout if app is not None else DEFAULT_VISIBILITY
    for call in calls:
        for option in sorted(call.options):
            feature = _OF_CALLS.get(option, "")
            if feature and BEHAVIOURS[feature].level is not Level.SAME:
                found.append(Finding(feature, f"{call.how}({option}=…)", call.place, task=task.name))
        if call.by_name and call.how == "send_task":
            found.append(Finding("by_name", f"send_task({call.target!r})", call.place, task=task.name))
        if call.how in {"map", "starmap", "chunks"}:
            found.append(Finding("canvas", call.how, call.place, task=task.name))
        if call.wait is not None and limit is not None and call.wait > limit:
            text = f"waits {call.wait:g} s, and the broker's visibility timeout is {limit:g} s"
            found.append(Finding("long_eta", text, call.place, task=task.name))
    return list({(item.feature, item.place): item for item in found}.values())


def _publish(calls: Sequence[Call]) -> Publish:
    dispatches = sorted(
        (call for call in calls if call.how in DISPATCHES or call.how == "send_task"), key=lambda call: call.place
    )
    for call in dispatches:
        if "on_commit" in call.where or call.how.endswith("_on_commit"):
            return Publish("outbox", "dispatched after a commit: a crash in between would lose it", call.place)
    for call in dispatches:
        if "transaction" in call.where:
            return Publish("outbox", "dispatched inside a transaction: a rollback would not take it back", call.place)
    # A signature that is made in a loop is sent once for each turn, by a group.
    for call in [*dispatches, *(call for call in calls if call.how in SIGNATURES)]:
        if "loop" in call.where:
            return Publish("barrier", "dispatched in a loop: one wait for all instead of one each", call.place)
    return Publish("confirm", "nothing speaks for another mode" if calls else "no place that dispatches it was seen")


def _of_project(seen: Survey, known: _Known, *, complete: bool) -> list[Finding]:
    found = [Finding(sight.kind, sight.text, sight.place) for sight in seen.sights]
    found.extend(
        Finding(sight.kind, sight.text, sight.place)
        for code, sights in seen.uses.items()
        for sight in sights
        if sight.kind == "control" and code not in known.codes
    )
    where = "the app registers" if complete else "the source that was read declares"
    found.extend(
        Finding("unregistered", f"send_task({call.target!r}), which no task that {where} is called", call.place)
        for call in known.unregistered
    )
    return list({(item.feature, item.place): item for item in found}.values())


def _order(finding: Finding) -> tuple[int, str, Place]:
    return list(Level).index(finding.level), finding.feature, finding.place
