"""What versions and the database must offer before a process of the bridge starts."""

from __future__ import annotations

import pkgutil
import platform
import time
from collections.abc import Iterator, Sequence

import celery
import django

from taskbridge.checks import Line, fail, ok, warn
from taskbridge.contrib.django import migrations
from taskbridge.contrib.django.rules import words
from taskbridge.contrib.django.session import Sessions
from taskbridge.contrib.django.store import DjangoStore
from taskbridge.contrib.django.wiring import check_versions
from taskbridge.cutover import Flag, Stage
from taskbridge.exceptions import ConfigurationError, StoreUnavailable
from taskbridge.settings import Settings

LIMIT = 5.0
"""Seconds for one question to the database."""

SKEW = 1.0
"""Seconds by which two clocks may differ before anybody is told: a message that is due would wait as long."""


def version_lines() -> Iterator[Line]:
    """Yield whether the versions of Python, Celery and Django are supported."""
    found = f"Python {platform.python_version()}, Celery {celery.__version__}, Django {django.get_version()}"
    try:
        check_versions()
    except ConfigurationError as error:
        yield fail("versions", f"{found}: {error}", "install a supported version")
    else:
        yield ok("versions", found)


def database_lines(sessions: Sessions) -> Iterator[Line]:
    """Yield whether the bridge's database answers, is migrated, and has the same time as this machine."""
    subject = f"database {sessions.alias!r}"
    try:
        with sessions.transaction(LIMIT) as cursor:
            asked = time.time()
            cursor.execute("SELECT extract(epoch FROM clock_timestamp())::float8, current_setting('server_version')")
            theirs, server = cursor.fetchone()
            ours = (asked + time.time()) / 2
            cursor.execute("SELECT to_regclass('django_migrations') IS NOT NULL")
            applied: set[str] = set()
            if cursor.fetchone()[0]:
                cursor.execute("SELECT name FROM django_migrations WHERE app = 'taskbridge'")
                applied = {name for (name,) in cursor.fetchall()}
    except StoreUnavailable as error:
        yield fail(subject, str(error), "check DATABASES and that PostgreSQL runs")
        return
    yield ok(subject, f"PostgreSQL {server}")
    yield _migrations(sessions.alias, applied)
    yield _clock(theirs - ours)


def floor_lines(store: DjangoStore, settings: Settings, services: Sequence[str]) -> Iterator[Line]:
    """Yield whether the floor of each service goes with its stage; nothing when the database cannot be asked."""
    try:
        states = store.flag_states()
    except StoreUnavailable:
        # The lines about the database say why.
        return
    except ConfigurationError as error:
        yield warn("floors", str(error), "upgrade taskbridge")
        return
    for name in services:
        state = states.get(name)
        yield _floor(settings, name, state.flag if state else None)


def _floor(settings: Settings, service: str, flag: Flag | None) -> Line:
    floor = Stage.parse(settings.services[service].floor)
    stage = flag.stage if flag else None
    subject, found = f"floor of {service}", f"{floor}; the service {f'is {words(flag)}' if flag else 'was never moved'}"
    after = f"after {settings.flag_stale_after:g} s without the database" if flag else "until it is"
    if stage is Stage.COMPLETE and floor is not Stage.COMPLETE:
        return warn(
            subject,
            f"{found}: {after} messages are sent as in {floor}, and Celery's workers may be gone",
            f'set "floor": "complete" for {service}, and restart what dispatches',
        )
    if floor is Stage.COMPLETE and stage is not Stage.COMPLETE:
        return warn(
            subject,
            f"{found}: {after} all its messages go to Kafka",
            f'set "floor": "off" for {service}, and restart what dispatches',
        )
    return ok(subject, found)


def _migrations(alias: str, applied: set[str]) -> Line:
    wanted = {module.name for module in pkgutil.iter_modules(migrations.__path__) if module.name[0].isdecimal()}
    missing = sorted(wanted - applied)
    if missing:
        return fail(
            "migrations", f"not applied: {', '.join(missing)}", f"run `manage.py migrate taskbridge --database={alias}`"
        )
    newer = sorted(applied - wanted)
    if newer:
        return warn("migrations", f"the database is newer than this release: {', '.join(newer)}", "upgrade taskbridge")
    return ok("migrations", f"up to {max(wanted)}")


def _clock(ahead: float) -> Line:
    if abs(ahead) <= SKEW:
        return ok("clock", f"within {SKEW:g} s of the database's")
    side = "ahead of" if ahead > 0 else "behind"
    detail = f"the database's is {abs(ahead):.1f} s {side} this machine's"
    return warn("clock", detail, "run a time service on both machines")
