"""What the commands that move services say: what was done or would be, what comes next, and the way back."""

from __future__ import annotations

import getpass
import json
import socket
from typing import TYPE_CHECKING

import click

from taskbridge.contrib.django.documents import done_document, plan_document
from taskbridge.contrib.django.moves import Done, Plan, Preparations, carry_out, plan, way_back
from taskbridge.contrib.django.rules import Request, name_of, refusal, words
from taskbridge.cutover import BASIS_POINTS, Flag, Stage, is_forward
from taskbridge.exceptions import TransitionRefused

if TYPE_CHECKING:
    from taskbridge.contrib.django.wiring import Bridge

REFUSED = 2
"""Exit status of a transition that something stands against."""


def user() -> str:
    """Return who is at the keyboard, as the audit names them."""
    return f"{getpass.getuser()}@{socket.gethostname()}"


def perform(bridge: Bridge, request: Request, *, dry_run: bool = False, as_json: bool = False) -> None:
    """Carry a request out, or show what it would do, and tell of it."""
    if not dry_run:
        done = carry_out(bridge, request)
        if as_json:
            click.echo(json.dumps(done_document(done)))
        else:
            _tell_done(bridge, done)
        return
    planned = plan(bridge, request)
    if as_json:
        click.echo(json.dumps(plan_document(planned)))
    else:
        _tell_plan(bridge, planned)
    if planned.against:
        click.echo(f"error: {refusal(request, planned.before, planned.after, planned.against)}", err=True)
        click.get_current_context().exit(REFUSED)


def refuse_percent(percent: float | None) -> None:
    """Raise TransitionRefused when a percentage comes with something that takes none."""
    if percent is not None:
        raise TransitionRefused("a percentage belongs to shadow and live; clear takes none")


def _tell_done(bridge: Bridge, done: Done) -> None:
    change = done.change
    before, after = change.before, change.after
    if change.repeated:
        click.echo(f"This request was carried out before: {_line(before, after, 'went')}.")
        return
    for one in done.lifted:
        click.echo(f"overridden: {one.sentence}")
    _tell_preparations(done.preparations, dry_run=False)
    if before != after:
        click.echo(_line(before, after, "went"))
    elif not change.cleared:
        click.echo(f"{name_of(before)} is {_state(before)} already; nothing changed.")
        return
    if change.cleared:
        click.echo(f"Gone with it: the stages of their own of {', '.join(change.cleared)}")
    if before != after:
        click.echo()
        click.echo(_next(bridge, before, after))
        click.echo(f"{_way_words(before, after)}:  {way_back(before, after)}")


def _tell_plan(bridge: Bridge, planned: Plan) -> None:
    before, after = planned.before, planned.after
    if not planned.changes:
        click.echo(f"{name_of(before)} is {_state(before)} already; nothing changed.")
        return
    for one in planned.conditions:
        mark = "ok  " if one.ok else "lift" if one in planned.lifted else "NO  "
        click.echo(f"{mark} {one.name}: {one.sentence}")
    _tell_preparations(planned.preparations, dry_run=True)
    if before != after:
        click.echo(_line(before, after, "would go"))
    if planned.cleared:
        click.echo(f"Gone with it would be the stages of their own of {', '.join(planned.cleared)}")
    if before != after and not planned.against:
        click.echo()
        click.echo(_next(bridge, before, after))
        click.echo(f"{_way_words(before, after)}:  {way_back(before, after)}")
    click.echo("Nothing was changed (--dry-run).")


def _tell_preparations(preparations: Preparations, *, dry_run: bool) -> None:
    for topic in preparations.topics:
        click.echo(f"topic {topic.name}, {topic.partitions} partitions: {topic.state}")
    for seeding in preparations.offsets:
        verb = "needs" if dry_run else "was given"
        click.echo(f"group {seeding.group} {verb} first offsets in {len(seeding.seeded)} partitions")


def _line(before: Flag, after: Flag, went: str) -> str:
    epochs = f"(epoch {before.epoch} -> {after.epoch})"
    name = name_of(before)
    if before.hold != after.hold and (before.stage, before.basis_points) == (after.stage, after.basis_points):
        would = "would be" if went != "went" else "is"
        return f"{name} {would} {'held' if after.hold else 'released'} at {words(after)} {epochs}"
    return f"{name} {went} from {words(before)} to {words(after)} {epochs}"


def _state(flag: Flag) -> str:
    return words(flag) + (", held," if flag.hold else "")


def _way_words(before: Flag, after: Flag) -> str:
    if before.hold != after.hold:
        return "Release" if after.hold else "Hold again"
    return "Roll back" if is_forward(before, after.stage, after.basis_points) else "Forward again"


def _next(bridge: Bridge, before: Flag, after: Flag) -> str:
    service, settings = after.service, bridge.settings
    if before.hold != after.hold:
        return "Back and kill go on working; only forward is refused." if after.hold else "Forward is open again."
    of = f"Messages of {after.task}" if after.task else "Messages"
    follow = f"Every process follows within {settings.flag_max_age:g} s."
    match after.stage:
        case Stage.MIRROR | Stage.SHADOW:
            return (
                f"{follow} Celery executes every message; {settings.shadow_topic(service)} gets a copy of each.\n"
                f"Compare:    taskbridge worker --service {service} --role shadow\n"
                f"            taskbridge report {service}"
            )
        case Stage.LIVE:
            share = "every key" if after.basis_points == BASIS_POINTS else f"{after.basis_points / 100:g}% of the keys"
            return (
                f"{follow} {of} of {share} go to {settings.topic(service)}"
                f"{'' if after.basis_points == BASIS_POINTS else ', the others to Celery'}.\n"
                f"Execute:    taskbridge worker --service {service}\n"
                f"            taskbridge relay\n"
                f"Judge:      taskbridge report {service}"
            )
        case Stage.COMPLETE:
            return (
                f"{follow} {of} go to {settings.topic(service)}; Celery's broker is not needed for them any more.\n"
                f'Set "floor": "complete" for {service}, so that it also holds while the database is away.'
            )
        case Stage.OFF:
            return (
                f"{follow} Celery executes every message that is sent from then on.\n"
                f"Leave the service's workers running until its lag is 0: taskbridge status {service}"
            )
