"""How a command gets at the application it works on."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import update_wrapper
from typing import Any

import click

from taskbridge.exceptions import ConfigurationError


def load_app(name: str | None) -> Any:
    """
    Return the Celery application called `name`, with Django set up; the bridge need not be installed in it.

    Raises ConfigurationError when no name was given, or the application cannot be imported.
    """
    if not name:
        raise ConfigurationError(
            "no application was named: give -A MODULE[:NAME] as for `celery`, or set TASKBRIDGE_APP"
        )
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    import django
    from celery.app.utils import find_app
    from django.core.exceptions import ImproperlyConfigured

    try:
        app = find_app(name)
        django.setup()
    except (ImportError, AttributeError, ImproperlyConfigured) as error:
        raise ConfigurationError(f"the application {name} cannot be loaded: {error}") from error
    return app


def load_bridge(name: str | None) -> Any:
    """
    Return the bridge of the Celery application called `name`.

    Raises ConfigurationError when no name was given, or the application cannot be imported or has no bridge.
    """
    app = load_app(name)
    from taskbridge.contrib.django.wiring import bridge_of

    return bridge_of(app)


def pass_bridge(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the bridge of the application named by `-A` as its first argument."""

    @click.pass_context
    def command(context: click.Context, *args: Any, **kwargs: Any) -> Any:
        return context.invoke(function, load_bridge(context.obj), *args, **kwargs)

    return update_wrapper(command, function)
