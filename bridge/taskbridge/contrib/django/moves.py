"""What the command line, the admin and the HTTP API do with a transition: show all that it takes, and carry it out."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from taskbridge.adapters.celery.features import tasks_of, unsupported
from taskbridge.adapters.kafka.admin import KafkaAdmin, Seeding, TopicState
from taskbridge.contrib.django import fences, quiet, rules
from taskbridge.contrib.django.readiness import ComparisonReadiness
from taskbridge.contrib.django.rules import Condition, Request, Standing
from taskbridge.contrib.django.transition import LIMIT, Change, answered, read_standing, transition
from taskbridge.cutover import PERCENTAGES, Flag, Stage, is_forward, next_steps
from taskbridge.exceptions import ConfigurationError, TransitionRefused, Unavailable
from taskbridge.ports import Assessment, Readiness
from taskbridge.settings import Settings

if TYPE_CHECKING:
    from taskbridge.contrib.django.wiring import Bridge

PATIENCE = 5.0
"""Seconds for one question to Kafka: somebody waits for the answer."""

ASKED = frozenset({"verdict", "kafka", "members", "celery", "quiet"})
"""Conditions that may fail only because a server does not answer."""


class MoveRefused(TransitionRefused):
    """Conditions are not met; `plan` has all of them."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(str(rules.refusal(plan.request, plan.before, plan.after, plan.against)))
        self.plan = plan


@dataclass(frozen=True, slots=True)
class Preparations:
    """What a service needs in Kafka before its first record, and lacked."""

    topics: tuple[TopicState, ...] = ()
    offsets: tuple[Seeding, ...] = ()

    def document(self) -> dict[str, Any]:
        """Return them as JSON types."""
        return {
            "topics": [asdict(state) for state in self.topics],
            "offsets": [asdict(seeding) for seeding in self.offsets],
        }


@dataclass(frozen=True, slots=True)
class Plan:
    """What a request would do, and everything that it takes."""

    request: Request
    before: Flag
    after: Flag
    conditions: tuple[Condition, ...] = ()
    preparations: Preparations = Preparations()
    verdict: Assessment | None = None
    unavailable: Unavailable | None = None
    """What a server said that could not be asked."""
    cleared: tuple[str, ...] = ()
    """Tasks that would lose their own stage with it."""

    @property
    def changes(self) -> bool:
        """Whether there is anything to do."""
        return self.after != self.before or bool(self.cleared)

    @property
    def forward(self) -> bool:
        """Whether more would go to Kafka than before."""
        return rules.forward(self.before, self.after)

    @property
    def lifted(self) -> tuple[Condition, ...]:
        """Conditions that are not met and that the override lifts."""
        return tuple(one for one in self.conditions if not one.ok and one.overridable and self.request.override)

    @property
    def against(self) -> tuple[Condition, ...]:
        """Conditions that are not met and stand against it."""
        return tuple(one for one in self.conditions if not one.ok and one not in self.lifted)


@dataclass(frozen=True, slots=True)
class Done:
    """A request that was carried out: what it changed, what it created in Kafka, and what was lifted for it."""

    request: Request
    change: Change
    preparations: Preparations = Preparations()
    lifted: tuple[Condition, ...] = ()


def plan(bridge: Bridge, request: Request, readiness: Readiness | None = None) -> Plan:
    """
    Return what a request would do and all its conditions, changing nothing.

    A transition that does not lead forward has none and asks no server but the database. Raises TransitionRefused for
    a request that makes no sense, TransitionOvertaken when the flag is not in the expected epoch, StoreUnavailable.
    """
    rules.check(request, bridge.settings)
    if request.task and request.action == "move":
        _check_task(bridge, request)
    standing = read_standing(bridge.store, bridge.settings, request.service)
    before = standing.of(request.task)
    rules.check_epoch(request, before)
    after = rules.aim(request, standing)
    if after != before:
        after = replace(after, epoch=before.epoch + 1)
    cleared = tuple(sorted(standing.pinned())) if request.action == "kill" else ()
    if not rules.forward(before, after):
        return Plan(request, before, after, cleared=cleared)
    inquiry = _Inquiry(bridge, request, standing, before, after)
    inquiry.ask(readiness or ComparisonReadiness(bridge.settings))
    return Plan(
        request, before, after, tuple(inquiry.conditions), inquiry.preparations, inquiry.verdict, inquiry.unavailable
    )


def carry_out(bridge: Bridge, request: Request, readiness: Readiness | None = None) -> Done:
    """
    Do what a request asks for.

    On the way forward missing topics are created and the consumer groups get their first offsets. A request id that was
    carried out before is answered as it was then. Raises MoveRefused with the plan when conditions are not met, and
    otherwise as `plan` does; BrokerUnavailable when it needs Kafka, which does not answer.
    """
    rules.check(request, bridge.settings)
    if earlier := answered(bridge.store, request):
        return Done(request, earlier)
    if request.action == "kill":
        # In an emergency nothing is asked that could hang.
        return Done(request, transition(bridge.store, bridge.settings, request))
    planned = plan(bridge, request, readiness)
    if planned.unavailable and all(one.name in ASKED for one in planned.against):
        raise planned.unavailable
    if planned.against:
        raise MoveRefused(planned)
    preparations = Preparations()
    if planned.forward:
        preparations = _prepare(KafkaAdmin(bridge.settings, timeout=PATIENCE), request.service, dry_run=False)
    exact = replace(request, expected_epoch=planned.before.epoch, override=bool(planned.lifted))
    change = transition(bridge.store, bridge.settings, exact, planned.verdict)
    return Done(request, change, preparations, planned.lifted)


def command(flag: Flag) -> str:
    """Return the command that brings a service, or a task, to the stage of `flag`."""
    task = f" --task {shlex.quote(flag.task)}" if flag.task else ""
    if flag.cleared:
        return f"taskbridge cutover {flag.service} clear{task}"
    percent = f" --percent {flag.basis_points / 100:g}" if flag.stage in PERCENTAGES else ""
    return f"taskbridge cutover {flag.service} {flag.stage}{percent}{task}"


def way_back(before: Flag, after: Flag) -> str:
    """Return the command that undoes a change, as far as one command can."""
    if before.hold != after.hold:
        task = f" --task {shlex.quote(after.task)}" if after.task else ""
        return f"taskbridge {'release' if after.hold else 'hold'} {after.service}{task}"
    if not is_forward(after, before.stage, before.basis_points):
        return command(before)
    steps = next_steps(after)
    stage, points = next(((stage, points) for stage, points in steps if stage is before.stage), steps[0])
    if stage is before.stage:
        points = min(points, before.basis_points)
    return command(replace(before, stage=stage, basis_points=points, cleared=False))


class _Inquiry:
    """Asks everything that a transition forward takes; a server that does not answer is asked once."""

    def __init__(self, bridge: Bridge, request: Request, standing: Standing, before: Flag, after: Flag) -> None:
        self._bridge = bridge
        self._request = request
        self._standing = standing
        self._before = before
        self._after = after
        self._admin = KafkaAdmin(bridge.settings, timeout=PATIENCE)
        self.conditions: list[Condition] = []
        self.preparations = Preparations()
        self.verdict: Assessment | None = None
        self.unavailable: Unavailable | None = None

    def ask(self, readiness: Readiness) -> None:
        """Fill in the conditions."""
        kafka = self._kafka()
        if rules.needs_verdict(self._before, self._after):
            self.verdict = self._assess(readiness)
        self.conditions += rules.conditions(self._request, self._standing, self._after, self.verdict)
        self.conditions.append(kafka)
        if self._bridge.settings.services[self._request.service].ordered:
            self.conditions.append(self._seen_by_all())
        if self._after.stage in {Stage.LIVE, Stage.COMPLETE}:
            self.conditions.append(_supported(self._bridge, self._request, self._standing))
            self.conditions.append(self._reached("members", self._members, overridable=True))
        if self._after.stage is Stage.COMPLETE:
            self._quiet()

    def _kafka(self) -> Condition:
        def prepared() -> Condition:
            self.preparations = _prepare(self._admin, self._request.service, dry_run=True)
            return Condition("kafka", True, "Kafka has what the service needs, or it can be created")

        return self._reached("kafka", prepared)

    def _seen_by_all(self) -> Condition:
        settings = self._bridge.settings
        with self._bridge.store.sessions.transaction(LIMIT) as cursor:
            try:
                fences.check_ready(cursor, self._before, self._after, settings.flag_stale_after)
            except TransitionRefused as refused:
                return Condition("order", False, str(refused))
        return Condition("order", True, "every process knows where the service is, so that order can be kept")

    def _assess(self, readiness: Readiness) -> Assessment:
        if self.unavailable:
            return Assessment("INSUFFICIENT", "INSUFFICIENT: the observations cannot be read")
        return readiness.assess(self._request.service, self._request.task)

    def _members(self) -> Condition:
        service = self._request.service
        workers, unowned = self._admin.unowned(service)
        topic = self._bridge.settings.topic(service)
        if not unowned:
            return Condition("members", True, f"running workers own every partition of {topic}", overridable=True)
        what = "no worker runs" if not workers else f"partition {', '.join(map(str, unowned))} belongs to no worker"
        return Condition(
            "members", False, f"{what} for {topic}: start `taskbridge worker --service {service}`", overridable=True
        )

    def _quiet(self) -> None:
        try:
            self.conditions += quiet.conditions(self._bridge, self._request.service, self._standing)
        except Unavailable as error:
            self.unavailable = self.unavailable or error
            self.conditions.append(Condition("celery", False, str(error)))
        except ConfigurationError as error:
            self.conditions.append(Condition("celery", False, str(error)))

    def _reached(self, name: str, question: Callable[[], Condition], *, overridable: bool = False) -> Condition:
        if self.unavailable:
            return Condition(name, False, "Kafka does not answer", overridable)
        try:
            return question()
        except Unavailable as error:
            self.unavailable = error
            return Condition(name, False, str(error))
        except ConfigurationError as error:
            return Condition(name, False, str(error))


def _prepare(admin: KafkaAdmin, service: str, *, dry_run: bool) -> Preparations:
    """Create what a service needs in Kafka before the first record, or find out what it lacks."""
    topics = tuple(state for state in admin.ensure_topics([service], dry_run=dry_run) if state.state != "ok")
    # A group cannot be looked at before its topic is there.
    seeded: Sequence[Seeding] = () if dry_run and topics else admin.seed_offsets(service, dry_run=dry_run)
    return Preparations(topics, tuple(seeding for seeding in seeded if seeding.seeded))


def _supported(bridge: Bridge, request: Request, standing: Standing) -> Condition:
    bridge.app.loader.import_default_modules()
    chosen = [request.task] if request.task else tasks_of(bridge.app, bridge.settings, request.service)
    # Whoever has a stage of its own does not move with its service.
    moving = [name for name in chosen if name in bridge.app.tasks and (request.task or name not in standing.pinned())]
    findings = [str(finding) for finding in unsupported(bridge.app, moving)]
    if findings:
        return Condition("tasks", False, "; ".join(findings))
    return Condition("tasks", True, "the worker offers everything that the tasks use")


def _check_task(bridge: Bridge, request: Request) -> None:
    """Raise TransitionRefused unless a task belongs to the service, by its registration or by its name alone."""
    settings: Settings = bridge.settings
    bridge.app.loader.import_default_modules()
    known = tasks_of(bridge.app, settings, request.service)
    if request.task in known:
        return
    if request.task not in bridge.app.tasks:
        # A task of another program, which this one only sends by name.
        found = bridge.addressing.service(request.task, "", (), {})
        if found is not None and found.name == request.service:
            return
    shown = ", ".join(known) or "none that is registered here"
    raise TransitionRefused(f"{request.service} has no task {request.task!r}; its tasks: {shown}")
