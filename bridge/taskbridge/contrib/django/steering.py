"""The admin's pages on services: how they stand, what a transition would do, and its button."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse

from taskbridge.adapters.celery.features import tasks_of
from taskbridge.contrib.django.history import transitions
from taskbridge.contrib.django.moves import MoveRefused, Plan, carry_out, plan
from taskbridge.contrib.django.rules import ACTIONS, Request, name_of, refusal, words
from taskbridge.contrib.django.site import ServiceState, site_bridge, survey
from taskbridge.contrib.django.transition import from_document
from taskbridge.cutover import PERCENTAGES, Flag, Stage, next_steps, target
from taskbridge.exceptions import TaskbridgeError, TransitionOvertaken, TransitionRefused

PERMISSION = "taskbridge.move_service"

HISTORY = 20
"""Rows of the audit on a service's page."""


@dataclass(frozen=True, slots=True)
class Button:
    """Something that can be done: it leads to the page that shows what it would do."""

    text: str
    url: str
    kind: str = ""


def may_move(request: HttpRequest) -> bool:
    """Return whether somebody may move services."""
    return bool(request.user.has_perm(PERMISSION))


def services(model_admin: Any, request: HttpRequest) -> HttpResponse:
    """Return the page of all services."""
    _may_look(model_admin, request)

    def rows() -> list[dict[str, Any]]:
        bridge = site_bridge()
        last = {row["service"]: row for row in reversed(transitions(bridge.store, limit=500))}
        found = survey(bridge.store, bridge.settings)
        return [_row(model_admin, state, last.get(name)) for name, state in found.items()]

    return _page(model_admin, request, "services", "Services", {"rows": _told(request, rows)})


def service(model_admin: Any, request: HttpRequest, name: str) -> HttpResponse:
    """Return the page of one service."""
    _may_look(model_admin, request)

    def context() -> dict[str, Any]:
        bridge = site_bridge()
        if name not in bridge.settings.services:
            raise Http404(f"there is no service {name!r}")
        state = survey(bridge.store, bridge.settings)[name]
        bridge.app.loader.import_default_modules()
        movable = may_move(request)
        ordered = bridge.settings.services[name].ordered
        return {
            **_row(model_admin, state, None),
            "fence": state.flag.fence is not None,
            "ordered": ordered,
            "buttons": list(_buttons(model_admin, state.flag)) if movable else [],
            "own_tasks": [
                {"flag": one.flag, "words": words(one.flag), "changed_at": one.changed_at,
                 "buttons": list(_buttons(model_admin, one.flag)) if movable else []}
                for one in state.tasks.values()
            ],
            "known_tasks": tasks_of(bridge.app, bridge.settings, name),
            "stages": list(Stage),
            "may_move": movable,
            "move_url": _move_url(model_admin, name),
            "history": [_audited(row) for row in transitions(bridge.store, name, limit=HISTORY)],
        }  # fmt: skip

    return _page(model_admin, request, "service", name, _told(request, context) or {})


def move(model_admin: Any, request: HttpRequest, name: str) -> HttpResponse:
    """Return the page that shows what a transition would do, or, for a POST, carry it out."""
    if not may_move(request):
        raise PermissionDenied
    back = HttpResponseRedirect(_url(model_admin, "changelist"))
    given = request.POST if request.method == "POST" else request.GET
    try:
        bridge = site_bridge()
        if name in bridge.settings.services:
            back = HttpResponseRedirect(_url(model_admin, "change", name))
        wanted = _wanted(request, name, given)
        if request.method == "POST":
            try:
                done = carry_out(bridge, wanted)
            except MoveRefused as refused:
                messages.error(request, f"Nothing was done: {refused}")
                return _confirmation(model_admin, request, refused.plan, given)
            _tell(request, done.change.before, done.change.after, happened=done.change.happened)
            return back
        return _confirmation(model_admin, request, plan(bridge, wanted), given)
    except TransitionOvertaken as error:
        messages.warning(request, f"Nothing was done: {error}")
    except TaskbridgeError as error:
        messages.error(request, f"Nothing was done: {error}")
    return back


def _confirmation(model_admin: Any, request: HttpRequest, planned: Plan, given: Mapping[str, Any]) -> HttpResponse:
    context = {
        "plan": planned,
        "name": name_of(planned.before),
        "before": words(planned.before),
        "after": words(planned.after),
        "hold_changes": planned.before.hold != planned.after.hold,
        "liftable": any(not one.ok and one.overridable for one in planned.conditions),
        "hopeless": any(not one.ok and not one.overridable for one in planned.conditions),
        "refusal": refusal(planned.request, planned.before, planned.after, planned.against) if planned.against else "",
        "fields": {
            field: given.get(field, "") for field in ("action", "stage", "percent", "task", "epoch") if given.get(field)
        },
        "reason": given.get("reason", ""),
        "back_url": _url(model_admin, "change", planned.request.service),
    }
    title = f"{planned.request.action.capitalize()} {context['name']}"
    return _page(model_admin, request, "move", title, context)


def _wanted(request: HttpRequest, name: str, given: Mapping[str, Any]) -> Request:
    """Return the request in a form; raise TransitionRefused for one that makes no sense."""
    action = given.get("action", "move")
    if action not in ACTIONS:
        raise TransitionRefused(f"there is no action {action!r}; actions are {', '.join(ACTIONS)}")
    stage = Stage.parse(given.get("stage", "")) if action == "move" else None
    try:
        percent = float(given["percent"]) if given.get("percent") else None
        epoch = int(given["epoch"]) if given.get("epoch") else None
    except ValueError:
        raise TransitionRefused("the percentage and the epoch must be numbers") from None
    return Request(
        service=name,
        action=action,
        stage=stage,
        basis_points=target(stage, percent if stage in PERCENTAGES else None) if stage else 0,
        task=given.get("task", "").strip(),
        who=f"admin:{request.user.get_username()}",
        why=given.get("reason", "").strip(),
        override=bool(given.get("override")),
        expected_epoch=epoch,
    )


def _tell(request: HttpRequest, before: Flag, after: Flag, *, happened: bool) -> None:
    if not happened:
        messages.info(request, f"Nothing to do: {name_of(before)} is {words(before)} already; nothing changed.")
    elif before.hold != after.hold:
        messages.success(
            request, f"Done: {name_of(before)} is {'held' if after.hold else 'released'} at {words(after)}."
        )
    else:
        messages.success(request, f"Done: {name_of(before)} went from {words(before)} to {words(after)}.")


def _buttons(model_admin: Any, flag: Flag) -> Iterator[Button]:
    """Yield what can be done from where a flag stands: forward, back, hold, and the way out."""
    at = {"task": flag.task, "epoch": flag.epoch}
    url = _move_url(model_admin, flag.service)

    def button(text: str, kind: str, **fields: Any) -> Button:
        return Button(text, f"{url}?{urlencode({key: value for key, value in fields.items() if value != ''})}", kind)

    for stage, points in next_steps(flag):
        percent = f" {points / 100:g}%" if points else ""
        yield button(f"Forward: {stage}{percent}", "forward", stage=stage, percent=points / 100 if points else "", **at)
    for stage in list(Stage)[: list(Stage).index(flag.stage)]:
        if stage not in PERCENTAGES:
            yield button(f"Back: {stage}", "back", stage=stage, **at)
    hold = "release" if flag.hold else "hold"
    yield button(hold.capitalize(), "hold", action=hold, **at)
    if flag.task:
        yield button("Clear: as its service", "back", action="clear", **at)
    else:
        yield button("Kill", "kill", action="kill")


def _row(model_admin: Any, state: ServiceState, last: Mapping[str, Any] | None) -> dict[str, Any]:
    flag = state.flag
    return {
        "service": flag.service,
        "flag": flag,
        "words": words(flag),
        "changed_at": state.state.changed_at if state.state else None,
        "changed_by": last["who"] if last else "",
        "tasks": [f"{task}: {words(one.flag)}" for task, one in state.tasks.items()],
        "url": _url(model_admin, "change", flag.service),
    }


def _audited(row: Mapping[str, Any]) -> dict[str, Any]:
    def stage(found: Mapping[str, Any]) -> str:
        document = {**found, "basis_points": round(found["percent"] * 100), "version": 0}
        return words(from_document(row["service"], row["task"], document)) + (", held" if found["hold"] else "")

    return {**row, "before": stage(row["before"]), "after": stage(row["after"])}


def _told(request: HttpRequest, question: Callable[[], Any]) -> Any:
    """Return the answer to a question, or None, with a message on the page, when it cannot be answered."""
    try:
        return question()
    except TaskbridgeError as error:
        messages.error(request, f"This is not known: {error}")
        return None


def _may_look(model_admin: Any, request: HttpRequest) -> None:
    if not model_admin.has_view_permission(request):
        raise PermissionDenied


def _url(model_admin: Any, page: str, *arguments: str) -> str:
    return reverse(f"admin:taskbridge_serviceflag_{page}", args=arguments, current_app=model_admin.admin_site.name)


def _move_url(model_admin: Any, name: str) -> str:
    return _url(model_admin, "move", name)


def _page(model_admin: Any, request: HttpRequest, name: str, title: str, context: Mapping[str, Any]) -> HttpResponse:
    # A site may have several admins; links stay within this one.
    request.current_app = model_admin.admin_site.name
    common = {
        **model_admin.admin_site.each_context(request),
        "opts": model_admin.model._meta,
        "title": title,
        "list_url": _url(model_admin, "changelist"),
    }
    return TemplateResponse(request, f"taskbridge/admin/{name}.html", {**common, **context})
